import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { readTokenFile, writeTokenFile } from "../files.ts";
import { FakeHub } from "../testing/fakeHub.ts";
import { testBase } from "../testing/setup.ts";
import { AgentReporter, tokenExpiry } from "./agentReporter.ts";

const jwt = (exp: number): string =>
  `${["{}", JSON.stringify({ exp })].map((part) => Buffer.from(part).toString("base64url")).join(".")}.sig`;

let hub: FakeHub;
let home: string;
let reporter: AgentReporter;

/** Time that passes at once, but for the waits of one heartbeat. */
const hastyClock = {
  ...systemClock,
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(Math.min(ms, 5), signal),
};

beforeEach(async () => {
  hub = new FakeHub();
  await hub.start();
  home = await mkdtemp(join(tmpdir(), "rb-home-"));
  await writeTokenFile(home, "agent-token-1-7f3c");
});
afterEach(async () => {
  await reporter.stop();
  await hub.stop();
  await rm(home, { recursive: true });
});

const make = (clock = systemClock, heartbeatMs = 60_000) => {
  reporter = new AgentReporter(
    { ...testBase(), clock },
    { agentId: "agent-1", home, hubUrl: async () => hub.url, heartbeatMs },
  );
  return reporter;
};

test("the beginning, a heartbeat and the end are told in order, with the agent's token", async () => {
  make(systemClock, 20);
  await reporter.start();
  reporter.running(0);
  const beat = await hub.report((r) => r.get("heartbeat") === true);
  expect(beat).toMatchObject({ agentId: "agent-1", token: "agent-token-1-7f3c" });
  await reporter.ended(3);
  expect(hub.reports[0]?.body).toMatchObject({ phase: "running", startedAt: "1970-01-01T00:00:00.000Z" });
  expect(hub.reports.at(-1)?.body).toMatchObject({ phase: "error", exitCode: 3 });
});

test("a hub that fails is asked again, one that refuses is not", async () => {
  make(hastyClock);
  let attempts = 0;
  hub.reportStatus = 503;
  hub.reported.on(() => {
    attempts += 1;
    if (attempts === 3) hub.reportStatus = 200;
  });
  await reporter.ended(0);
  expect([attempts, hub.reports.length]).toEqual([4, 1]);
  hub.reportStatus = 403;
  attempts = 10;
  await reporter.ended(0);
  expect(attempts).toBe(11);
});

test("a token is refreshed before its end, and the new one is used from then on", async () => {
  const now = Math.floor(systemClock.now() / 1000);
  await writeTokenFile(home, jwt(now + 2));
  hub.refreshedToken = jwt(now + 36_000);
  make();
  const refreshed = new Promise<void>((resolve) => {
    hub.refreshed.on(() => resolve());
  });
  await reporter.start();
  await refreshed;
  reporter.running(0);
  await reporter.ended(0);
  await hub.report((r) => r.token === hub.refreshedToken || r.get("phase") === "stopped");
  expect(await readTokenFile(home)).toBe(hub.refreshedToken);
});

test("the end of a token's life is read without trusting it", () => {
  expect(tokenExpiry(jwt(1_800_000_000))).toBe(1_800_000_000_000);
  for (const text of ["", "a.b", "a.b.c", jwt(0).replace(/\.[^.]+$/, "")]) expect(tokenExpiry(text)).toBeUndefined();
});
