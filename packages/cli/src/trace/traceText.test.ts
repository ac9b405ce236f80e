import { expect, test } from "@jest/globals";
import type { Trace } from "@rootstock/protocol";
import { traceText } from "./traceText.ts";

const A = { id: "a0000000-0000-4000-8000-000000000001", name: "A" };
const B = { id: "b0000000-0000-4000-8000-000000000002" };
const LAPTOP = { id: "c0000000-0000-4000-8000-000000000003", name: "laptop" };
const SESSION = "d0000000-0000-4000-8000-000000000004";

const at = (ms: number) => new Date(Date.parse("2026-01-02T03:04:05.000Z") + ms).toISOString();

test("a trace as a person reads it: each step, what it waits for, what comes next", () => {
  const trace: Trace = {
    id: "e0000000-0000-4000-8000-000000000005",
    kind: "message",
    state: "pending",
    agent: { id: "f0000000-0000-4000-8000-000000000006", slug: "a1" },
    attempts: 3,
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    hops: [
      { event: "accepted", at: at(0), replica: B },
      {
        event: "claimed",
        at: at(12),
        replica: A,
        runtimeBroker: LAPTOP,
        session: SESSION,
        attempt: 1,
        waitedMs: 12,
        waitedFor: "behind 2 earlier messages",
      },
      {
        event: "given_back",
        at: at(1_530),
        replica: A,
        runtimeBroker: LAPTOP,
        session: SESSION,
        attempt: 1,
        reason: "it answered 409",
        times: 3,
        lastAt: at(3_725_000),
      },
    ],
    waiting: { since: at(3_725_000), reasons: ["agent starting"] },
    next: [
      { event: "claimed", when: "once the agent runs" },
      { event: "failed", at: at(604_800_000), when: "if it is still waiting then" },
    ],
  };
  expect(traceText(trace)).toBe(
    [
      "message e0000000-0000-4000-8000-000000000005, agent a1 (f0000000-0000-4000-8000-000000000006): pending, attempts 3",
      "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      "",
      "TIME                      AFTER   EVENT       REPLICA                                   RUNTIME BROKER                                 ATTEMPT  SESSION                               REMARK",
      "2026-01-02T03:04:05.000Z  +0 ms   accepted    b0000000-0000-4000-8000-000000000002",
      "2026-01-02T03:04:05.012Z  +12 ms  claimed     A (a0000000-0000-4000-8000-000000000001)  laptop (c0000000-0000-4000-8000-000000000003)  1        d0000000-0000-4000-8000-000000000004  waited 12 ms: behind 2 earlier messages",
      "2026-01-02T03:04:06.530Z  +1.5 s  given back  A (a0000000-0000-4000-8000-000000000001)  laptop (c0000000-0000-4000-8000-000000000003)  1        d0000000-0000-4000-8000-000000000004  it answered 409; 3 times, last at 2026-01-02T04:06:10.000Z",
      "",
      "waiting since 2026-01-02T04:06:10.000Z:",
      "  - agent starting",
      "",
      "next:",
      "  - claimed: once the agent runs",
      "  - failed at 2026-01-09T03:04:05.000Z: if it is still waiting then",
    ].join("\n"),
  );
});

test("an operation is named by what it does; what is over has neither waits nor a future", () => {
  const text = traceText({
    id: "e0000000-0000-4000-8000-000000000005",
    kind: "dispatch",
    op: "stop",
    state: "expired",
    attempts: 0,
    maxAttempts: 3,
    error: "nobody took it",
    hops: [
      { event: "accepted", at: at(0) },
      { event: "expired", at: at(7_500_000), reason: "nobody took it" },
    ],
    next: [],
  });
  expect(text.split("\n")).toEqual([
    "stop e0000000-0000-4000-8000-000000000005: expired, attempts 0 of 3",
    "error: nobody took it",
    "",
    "TIME                      AFTER     EVENT     REPLICA  RUNTIME BROKER  ATTEMPT  SESSION  REMARK",
    "2026-01-02T03:04:05.000Z  +0 ms     accepted",
    "2026-01-02T05:09:05.000Z  +2 h 5 m  expired                                              nobody took it",
  ]);
});
