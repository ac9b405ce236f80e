import { describe, expect, test } from "@jest/globals";
import type { Rule } from "./breach.ts";
import { check } from "./checker.ts";
import { Dice } from "./dice.ts";
import type { Fact, Rest, Transition } from "./history.ts";
import { drawSchedule } from "./schedule.ts";

/** The checker against histories made by hand: one that keeps every promise, and for each promise one that does not. */

const asked = (at: number, text: string): Fact => ({ kind: "asked", at, call: text, agent: "a1", text });
const answered = (at: number, text: string, status: number): Fact => ({
  kind: "answered",
  at,
  call: text,
  agent: "a1",
  status,
  ...(status > 0 && status < 300 && { messageId: `id ${text}` }),
});
const received = (at: number, text: string, over: Partial<{ session: string; messageId: string }> = {}): Fact => ({
  kind: "received",
  at,
  runtimeBroker: "rb",
  session: "s1",
  replica: "r0",
  agent: "a1",
  messageId: `id ${text}`,
  text,
  ...over,
});
const delivered = (at: number, text: string): Fact => ({
  kind: "delivered",
  at,
  runtimeBroker: "rb",
  agent: "a1",
  messageId: `id ${text}`,
  text,
});
/** A message from asking to its answer, with its arrival between. */
const sent = (at: number, text: string, status = 200): Fact[] => [
  asked(at, text),
  received(at + 1, text),
  delivered(at + 2, text),
  answered(at + 3, text, status),
];
const fault = (at: number, until: number, what = "kill"): Fact => ({ kind: "fault", at, until, what, replica: "r0" });
const heard = (at: number, text: string): Fact => ({
  kind: "event",
  at,
  subscriber: "one",
  id: String(at),
  topic: "message",
  entity: `id ${text}`,
  value: text,
});
const said = (at: number, value: string): Fact => ({
  kind: "event",
  at,
  subscriber: "one",
  id: String(at),
  topic: "agent",
  entity: "a1",
  value,
});
const operation = (at: number, until: number, verb: "start" | "stop" | "restart", status = 200): Fact[] => [
  { kind: "operation asked", at, call: `${verb} ${at}`, agent: "a1", verb },
  { kind: "operation answered", at: until, call: `${verb} ${at}`, status, unfinished: status === 202 },
];
const execution = (at: number, until: number, action: "start" | "stop", session = "s1"): Fact[] => [
  { kind: "execution began", at, execution: `${action} ${at}`, runtimeBroker: "rb", session, agent: "a1", action },
  { kind: "execution ended", at: until, execution: `${action} ${at}` },
];
const sessionEnded = (at: number, session: string): Fact => ({
  kind: "session ended",
  at,
  runtimeBroker: "rb",
  session,
});

const row = (text: string, state = "delivered") => ({ id: `id ${text}`, agent: "a1", text, state });
const step = (over: Partial<Transition>): Transition => ({
  table: "messages",
  id: "id m",
  from: "delivering",
  to: "delivered",
  claimedBy: "i1",
  claimSession: "s1",
  claimsNow: null,
  claimSessionNow: null,
  ownerHub: "i1",
  ownerSession: "s1",
  writers: ["i1"],
  subject: "m",
  ...over,
});

/** How often operations on the agent were begun. */
const begun = (times: Readonly<Record<string, number>>): Partial<Rest> => ({
  dispatches: Object.entries(times).map(([op, attempts]) => ({ id: op, agent: "a1", op, state: "done", attempts })),
});

const rulesOf = (facts: readonly Fact[], rest: Partial<Rest> = {}, remembers = true): Rule[] => {
  const whole: Rest = {
    messages: [],
    dispatches: [],
    transitions: [],
    moves: [],
    subscribers: [],
    agentChanges: [],
    sockets: [],
    held: [],
    phases: [],
    ...rest,
  };
  const inOrder = facts.toSorted((a, b) => a.at - b.at);
  return [...new Set(check({ facts: inOrder, rest: whole }, () => remembers).map((b) => b.rule))];
};

test("a history that keeps every promise has no breach", () => {
  const facts = [
    ...sent(10, "m1"),
    ...sent(20, "m2", 202),
    // The owner was killed between sending and settling: the same id again, over the next socket.
    asked(100, "m3"),
    received(101, "m3"),
    delivered(102, "m3"),
    fault(103, 400),
    sessionEnded(104, "s1"),
    received(110, "m3", { session: "s2" }),
    answered(111, "m3", 200),
    // Its connection broke: nobody knows, and both ends are right.
    asked(120, "m4"),
    answered(121, "m4", 0),
    asked(130, "m5"),
    answered(131, "m5", 409),
    ...operation(200, 220, "restart"),
    ...execution(202, 205, "stop"),
    ...execution(206, 210, "start"),
    ...["m1", "m2", "m3"].map((m, i) => heard(300 + i, m)),
    said(310, "stopped/"),
    said(311, "running/"),
  ];
  const rest = {
    messages: [row("m1"), row("m2"), row("m3")],
    transitions: [
      step({ from: "pending", to: "delivering", claimedBy: null, claimsNow: "i1", claimSessionNow: "s1" }),
      step({}),
      // Thought dead, and taken back; the socket that acknowledged it is still the runtime broker's own.
      step({ from: "pending", claimedBy: null, claimsNow: "i1", claimSessionNow: "s1" }),
    ],
    agentChanges: [
      { agent: "a1", value: "stopped/" },
      { agent: "a1", value: "running/" },
    ],
    sockets: [{ runtimeBroker: "rb", session: "s2", named: "s2" }],
    phases: [{ agent: "a1", phase: "running", there: "running" }],
    dispatches: [{ id: "d1", agent: "a1", op: "restart", state: "done", attempts: 1 }],
  };
  expect(rulesOf(facts, rest)).toEqual([]);
});

describe("lost", () => {
  test("accepted for one agent and delivered to another", () => {
    const facts = [asked(1, "m"), received(2, "m"), { ...delivered(3, "m"), agent: "a2" }, answered(4, "m", 200)];
    expect(rulesOf(facts as Fact[], { messages: [row("m")] })).toEqual(["lost"]);
  });
  test("accepted and never delivered", () => {
    const facts = [asked(1, "m"), answered(2, "m", 202)];
    expect(rulesOf(facts, { messages: [row("m", "failed")] })).toEqual(["lost"]);
    expect(rulesOf(facts)).toEqual(["lost"]);
  });
  test("stored, and given up, though nobody heard that it was accepted", () => {
    const facts = [asked(1, "m"), answered(2, "m", 0)];
    expect(rulesOf(facts, { messages: [row("m", "failed")] })).toEqual(["lost"]);
    const large = { ...asked(1, "m"), oversize: true } as Fact;
    expect(rulesOf([large, answered(2, "m", 0)], { messages: [row("m", "failed")] })).toEqual([]);
  });
  test("counted as delivered, and never was", () => {
    expect(rulesOf([asked(1, "m"), answered(2, "m", 0)], { messages: [row("m")] })).toEqual(["lost"]);
  });
  test("a stop answered as done that never reached the runtime broker", () => {
    expect(rulesOf(operation(1, 2, "stop"))).toEqual(["lost"]);
  });
  test("a stop answered as under way that never reached the runtime broker", () => {
    expect(rulesOf(operation(1, 2, "stop", 202))).toEqual(["lost"]);
  });
  test("an agent that runs, and of which the hub has no record", () => {
    const held = { runtimeBroker: "rb", slug: "m-1", known: true };
    expect(rulesOf([], { held: [held] })).toEqual([]);
    expect(rulesOf([], { held: [{ ...held, known: false }] })).toEqual(["lost"]);
  });
  test("answered 200 before it was delivered", () => {
    const facts = [asked(1, "m"), answered(2, "m", 200), received(3, "m"), delivered(4, "m")];
    expect(rulesOf(facts, { messages: [row("m")] })).toEqual(["acknowledged before delivery"]);
  });
});

describe("duplicated", () => {
  const once = [asked(1, "m"), received(2, "m"), delivered(3, "m"), answered(4, "m", 200)];
  const messages = [row("m")];
  test("sent again with no fault between sending and settling", () => {
    const again = [...once, sessionEnded(5, "s1"), received(6, "m", { session: "s2" })];
    expect(rulesOf(again, { messages })).toEqual(["duplicated"]);
    expect(rulesOf([...again, fault(4, 5)], { messages })).toEqual([]);
  });
  test("sent again after a fault that came long after it should have been settled", () => {
    const again = [...once, fault(60_000, 60_001), received(60_002, "m", { session: "s2" })];
    expect(rulesOf(again, { messages })).toEqual(["duplicated"]);
  });
  test("sent twice over one socket, whatever happened meanwhile", () => {
    expect(rulesOf([...once, fault(3, 5), received(6, "m")], { messages })).toEqual(["duplicated"]);
    expect(rulesOf([...once, fault(3, 5, "pause"), received(6, "m")], { messages })).toEqual(["duplicated"]);
  });
  test("delivered twice by a runtime broker that remembers", () => {
    const facts = [...once, fault(4, 5), received(6, "m", { session: "s2" }), delivered(7, "m")];
    expect(rulesOf(facts, { messages })).toEqual(["duplicated"]);
    expect(rulesOf(facts, { messages }, false)).toEqual([]);
  });
  test("sent again under another id", () => {
    const facts = [...once, fault(4, 5), received(6, "m", { session: "s2", messageId: "another" })];
    expect(rulesOf(facts, { messages })).toEqual(["duplicated"]);
  });
});

test("out of order: answered before another was sent, and arrived after it", () => {
  const facts = (firstAnswer: number) => [
    asked(1, "m1"),
    answered(firstAnswer, "m1", 202),
    asked(5, "m2"),
    answered(6, "m2", 202),
    received(7, "m2"),
    delivered(8, "m2"),
    received(9, "m1"),
    delivered(10, "m1"),
  ];
  const messages = [row("m1"), row("m2")];
  expect(rulesOf(facts(2), { messages })).toEqual(["out of order"]);
  // Sent while the other was still under way: either order will do.
  expect(rulesOf(facts(6), { messages })).toEqual([]);
});

describe("executed twice at once", () => {
  test("two executions for one agent over a socket that lives", () => {
    const facts = (session: string) => [
      ...operation(1, 20, "stop"),
      ...operation(2, 20, "start"),
      ...execution(3, 9, "stop"),
      ...execution(5, 8, "start", session),
    ];
    const rest = begun({ stop: 1, start: 1 });
    expect(rulesOf(facts("s1"), rest)).toEqual(["executed twice at once"]);
    expect(rulesOf([...facts("s2"), sessionEnded(4, "s1")], rest)).toEqual([]);
  });
  test("executed again after its call was answered as done", () => {
    const facts = [...operation(1, 5, "stop"), ...execution(2, 4, "stop"), ...execution(10, 12, "stop")];
    expect(rulesOf(facts, begun({ stop: 2 }))).toEqual(["executed twice at once"]);
  });
  test("executed more often than it was begun, though nobody knows how its call ended", () => {
    const facts = [...operation(1, 5, "stop", 202), ...execution(2, 4, "stop"), ...execution(10, 12, "stop")];
    expect(rulesOf(facts, begun({ stop: 1 }))).toEqual(["executed twice at once"]);
    expect(rulesOf(facts, begun({ stop: 2 }))).toEqual([]);
    // Begun directly by a replica that died, it has no row.
    const died = [...operation(1, 5, "start", 0), ...execution(2, 4, "start"), ...execution(10, 12, "start")];
    expect(rulesOf(died, begun({ start: 1 }))).toEqual([]);
    expect(rulesOf(died)).toEqual(["executed twice at once"]);
  });
});

describe("failed, and ran later", () => {
  test("an operation", () => {
    const facts = (status: number) => [...operation(1, 5, "stop", status), ...execution(10, 12, "stop")];
    expect(rulesOf(facts(503), begun({ stop: 1 }))).toEqual(["failed, and ran later"]);
    expect(rulesOf(facts(202), begun({ stop: 1 }))).toEqual([]);
    expect(rulesOf(facts(0), begun({ stop: 1 }))).toEqual([]);
  });
  test("a message", () => {
    const facts = [asked(1, "m"), answered(2, "m", 503), received(3, "m"), delivered(4, "m")];
    expect(rulesOf(facts, { messages: [row("m")] })).toEqual(["failed, and ran later"]);
  });
});

describe("an old connection spoke", () => {
  const rules = (t: Transition) => rulesOf([], { transitions: [t] });
  test("completion by a replica whose claim it was not", () => {
    expect(rules(step({ writers: ["i2"] }))).toEqual(["an old connection spoke"]);
  });
  test("completion of what was taken back, by a replica that does not hold the socket any more", () => {
    expect(rules(step({ from: "pending", claimedBy: null, ownerHub: "i2" }))).toEqual(["an old connection spoke"]);
  });
  test("taken back from the replica that holds the socket", () => {
    const taken = step({ to: "pending", writers: ["i2"] });
    expect(rules(taken)).toEqual(["an old connection spoke"]);
    expect(rules({ ...taken, writers: ["i1"] })).toEqual([]);
    expect(rules({ ...taken, ownerHub: "i2", ownerSession: "s2" })).toEqual([]);
    expect(rules({ ...taken, ownerSession: "s2" })).toEqual([]);
  });
  test("a message that fails through a replica whose claim it was not", () => {
    expect(rules(step({ to: "failed", writers: ["i2"] }))).toEqual(["an old connection spoke"]);
    expect(rules(step({ to: "failed" }))).toEqual([]);
  });
  test("an agent that counts as running and is not", () => {
    const phases = [{ agent: "a1", phase: "running", there: "stopped" }];
    expect(rulesOf([], { phases })).toEqual(["an old connection spoke"]);
  });
  test("a claim for a socket that is not the runtime broker's own", () => {
    const claim = { from: "pending", to: "in_progress", claimedBy: null, claimsNow: "i1", claimSessionNow: "s0" };
    expect(rules(step(claim))).toEqual(["an old connection spoke"]);
  });
  test("a step out of a final state", () => {
    expect(rules(step({ from: "expired", to: "in_progress" }))).toEqual(["an old connection spoke"]);
  });
  test("an operation that is stored as over, for a socket that is not the runtime broker's own", () => {
    const stored = { table: "broker_dispatch", from: "pending", to: "done", claimedBy: null, claimsNow: "i1" } as const;
    expect(rules(step({ ...stored, claimSessionNow: "s1" }))).toEqual([]);
    expect(rules(step({ ...stored, claimSessionNow: "s0" }))).toEqual(["an old connection spoke"]);
  });
  test("a socket that its own replica gives up, and that lives", () => {
    const move = (from: string | null, to: string | null, writer: string) => ({
      runtimeBroker: "rb",
      fromHub: from && "i1",
      from,
      to,
      writers: [writer],
    });
    const lost = (writer: string) => ({ moves: [move("s1", null, writer), move(null, "s1", "i1")] });
    expect(rulesOf([], lost("i1"))).toEqual(["an old connection spoke"]);
    // By another one, which thought it dead.
    expect(rulesOf([], lost("i2"))).toEqual([]);
    expect(rulesOf([], { moves: [move("s1", null, "i1"), move(null, "s2", "i1")] })).toEqual([]);
  });
  test("in the end the database names another socket than the one that lives", () => {
    const sockets = [{ runtimeBroker: "rb", session: "s2", named: "s1" }];
    expect(rulesOf([], { sockets })).toEqual(["an old connection spoke"]);
  });
});

describe("events", () => {
  const messages = [row("m1"), row("m2")];
  const load = [...sent(1, "m1"), ...sent(10, "m2")];
  const agentChanges = [
    { agent: "a1", value: "stopped/" },
    { agent: "a1", value: "running/" },
  ];
  const breached: Rule[] = ["event missed or repeated"];
  test("missed", () => {
    expect(rulesOf([...load, heard(20, "m2")], { messages })).toEqual(breached);
    expect(rulesOf(load, { messages, subscribers: ["one"] })).toEqual(breached);
  });
  test("repeated", () =>
    expect(rulesOf([...load, heard(20, "m1"), heard(21, "m2"), heard(22, "m1")], { messages })).toEqual(breached));
  test("an effect before its cause", () =>
    expect(rulesOf([...load, heard(20, "m2"), heard(21, "m1")], { messages })).toEqual(breached));
  const resync: Fact = { kind: "resync", at: 8, subscriber: "one" };
  const crash: Fact = { kind: "fault", at: 6, until: 7, what: "crash database" };
  test("a gap that was told is none after a crash of the database, and there is no other reason for one", () => {
    expect(rulesOf([...load, resync, crash, heard(20, "m2")], { messages })).toEqual([]);
    expect(rulesOf([...load, resync, heard(20, "m2")], { messages })).toEqual(breached);
    expect(rulesOf([...load, resync, { ...resync, at: 9 }, crash, heard(20, "m2")], { messages })).toEqual(breached);
    expect(rulesOf([...load, resync, { ...crash, what: "restart database" }, heard(20, "m2")], { messages })).toEqual(
      breached,
    );
  });
  test("missed, repeated or in another order after a gap that was told", () => {
    expect(rulesOf([...load, resync, crash], { messages, subscribers: ["one"] })).toEqual(breached);
    expect(rulesOf([...load, resync, crash, heard(20, "m2"), heard(21, "m2")], { messages })).toEqual(breached);
    const after = [resync, crash, said(10, "stopped/")];
    expect(rulesOf([...after, said(11, "running/")], { agentChanges })).toEqual([]);
    expect(rulesOf(after, { agentChanges })).toEqual(breached);
  });
  test("changes of an agent in another order, or not all", () => {
    expect(rulesOf([said(1, "running/"), said(2, "stopped/")], { agentChanges })).toEqual(breached);
    expect(rulesOf([said(1, "stopped/")], { agentChanges })).toEqual(breached);
  });
});

describe("idempotent call executed twice", () => {
  const byKey = (at: number, status: number, body: string): Fact => ({
    kind: "answered by key",
    at,
    call: "m",
    status,
    body,
  });
  const breached: Rule[] = ["idempotent call executed twice"];
  test("a repetition hears something else", () => {
    expect(rulesOf([byKey(1, 200, "one"), byKey(2, 200, "two")])).toEqual(breached);
    expect(rulesOf([byKey(1, 202, "one"), byKey(2, 502, "one")])).toEqual(breached);
    expect(rulesOf([byKey(1, 409, "refused"), byKey(2, 200, "one"), byKey(3, 200, "one")])).toEqual([]);
  });
  test("one call left two messages", () => {
    const messages = [row("m"), { ...row("m"), id: "another" }];
    expect(
      rulesOf(
        sent(1, "m").filter((f) => f.kind !== "answered"),
        { messages },
      ),
    ).toContain(breached[0]);
  });
  test("one call left two intents", () => {
    const intent = (id: string) => ({ id, agent: "a1", op: "stop", state: "done", attempts: 1 });
    const facts = [...operation(1, 9, "stop"), ...execution(2, 3, "stop")];
    expect(rulesOf(facts, { dispatches: [intent("d1")] })).toEqual([]);
    expect(rulesOf(facts, { dispatches: [intent("d1"), intent("d2")] })).toEqual(breached);
  });
});

describe("late", () => {
  test("a message that took longer than the poll, though nothing stood in its way", () => {
    const facts = [asked(1, "m"), received(29_000, "m"), delivered(29_001, "m"), answered(29_002, "m", 200)];
    const messages = [row("m")];
    expect(rulesOf(facts, { messages })).toEqual(["late"]);
    expect(rulesOf([...facts, fault(2, 30_000, "deafen")], { messages })).toEqual(["late"]);
    expect(rulesOf([...facts, fault(2, 3)], { messages })).toEqual([]);
  });
  test("an operation", () => {
    const facts = [...operation(1, 25_000, "stop"), ...execution(2, 3, "stop")];
    expect(rulesOf(facts, begun({ stop: 1 }))).toEqual(["late"]);
  });
});

test("not at rest: what is still under way in the end", () => {
  expect(rulesOf([], { messages: [row("m", "delivering")] })).toEqual(["not at rest"]);
  expect(rulesOf([], { dispatches: [{ id: "d", agent: "a1", op: "stop", state: "pending", attempts: 0 }] })).toEqual([
    "not at rest",
  ]);
  expect(rulesOf([], { phases: [{ agent: "a1", phase: "stopped", there: "stopped" }] })).toEqual(["not at rest"]);
});

test("the same seed draws the same schedule, another one another", () => {
  const world = { replicas: 3, runtimeBrokers: 10, seconds: 60, versions: 2 };
  expect(drawSchedule(7, world)).toEqual(drawSchedule(7, world));
  expect(drawSchedule(8, world)).not.toEqual(drawSchedule(7, world));
  const kinds = new Set(drawSchedule(7, { ...world, seconds: 2_000 }).map((p) => p.fault.kind));
  expect(kinds.size).toBe(18);
  const throws = Array.from({ length: 1_000 }, (_, i) => new Dice(i).fraction());
  expect(Math.abs(throws.reduce((a, b) => a + b) / throws.length - 0.5)).toBeLessThan(0.05);
});
