import { expect, test } from "@jest/globals";
import type { AgentState } from "@rootstock/store";
import { type AgentReport, applyReport, refreshedStatus } from "./agentReport.ts";

const stored = (state: Partial<AgentState> = {}): AgentState => ({
  id: "11111111-2222-4333-8444-555555555555",
  projectId: "11111111-2222-4333-8444-666666666666",
  slug: "a",
  runtimeBrokerId: "11111111-2222-4333-8444-777777777777",
  runId: null,
  phase: "running",
  activity: null,
  toolName: null,
  message: null,
  stalledFromActivity: null,
  containerStatus: "Up",
  connectionState: null,
  runtimeState: null,
  taskSummary: null,
  exitCode: null,
  currentTurns: 0,
  currentModelCalls: 0,
  startedAt: null,
  ready: true,
  harnessAuth: "api-key",
  profile: "local",
  sinceChangeMs: 600_000,
  ...state,
});
const outside = (report: Partial<AgentReport>): AgentReport => ({ source: "runtimeBroker", ...report });
const inside = (report: Partial<AgentReport>): AgentReport => ({ source: "agent", ...report });

test("a report that says what is stored changes nothing", () => {
  const report = outside({ phase: "running", containerStatus: "Up", harnessAuth: "api-key", profile: "other" });
  expect(applyReport(stored(), report)).toEqual({});
});

test.each<[string, Partial<AgentState>, Partial<AgentReport>, object]>([
  [
    "resumed is running",
    { phase: "starting", ready: false },
    { phase: "resumed" },
    { phase: "running", running: "now" },
  ],
  ["a resumed container that runs", {}, { phase: "resumed" }, {}],
  ["a lower phase is dropped", {}, { phase: "starting" }, {}],
  ["a higher phase counts", { phase: "provisioning" }, { phase: "starting" }, { phase: "starting" }],
  ["stopped ends the run", {}, { phase: "stopped" }, { phase: "stopped", running: "none" }],
  [
    "a stop drops what it was doing",
    { activity: "working", toolName: "Bash" },
    { phase: "stopped" },
    { phase: "stopped", running: "none", activity: null, toolName: null },
  ],
  [
    "a stop keeps how it ended",
    { activity: "limits_exceeded" },
    { phase: "stopped" },
    { phase: "stopped", running: "none" },
  ],
  [
    "a non-zero exit code is a crash",
    {},
    { phase: "stopped", containerStatus: "Exited (137) 2 seconds ago" },
    {
      phase: "error",
      running: "none",
      containerStatus: "Exited (137) 2 seconds ago",
      exitCode: 137,
      message: "Agent crashed with exit code 137",
    },
  ],
  [
    "a crash with words keeps them",
    {},
    { phase: "stopped", exitCode: 2, message: "out of memory" },
    { phase: "error", running: "none", exitCode: 2, message: "out of memory" },
  ],
  [
    "exit code 0 is a stop",
    {},
    { phase: "stopped", containerStatus: "Exited (0) 1 second ago" },
    { phase: "stopped", running: "none", containerStatus: "Exited (0) 1 second ago", exitCode: 0 },
  ],
  ["a stopped agent does not run because a machine says so", { phase: "stopped" }, { phase: "running" }, {}],
  ["nor one in error", { phase: "error" }, { phase: "running", activity: "working" }, {}],
  [
    "a stopped agent may turn out to have crashed",
    { phase: "stopped" },
    { phase: "stopped", activity: "crashed", message: "boom" },
    { activity: "crashed", message: "boom", activityStamped: true },
  ],
  [
    "of a suspended agent only the container counts",
    { phase: "suspended" },
    { phase: "running", activity: "working", containerStatus: "Exited" },
    { containerStatus: "Exited" },
  ],
  [
    "an activity is news when it differs",
    { activity: "thinking" },
    { phase: "running", activity: "executing", toolName: "Bash" },
    { activity: "executing", toolName: "Bash", activityStamped: true },
  ],
  ["the same activity is none", { activity: "thinking" }, { phase: "running", activity: "thinking" }, {}],
  [
    "what it stalled from does not end a stall",
    { activity: "stalled", stalledFromActivity: "working" },
    { phase: "running", activity: "working" },
    {},
  ],
  [
    "another activity does",
    { activity: "stalled", stalledFromActivity: "working" },
    { phase: "running", activity: "executing" },
    { activity: "executing", stalledFromActivity: null, activityStamped: true },
  ],
  ["an unknown activity is none", {}, { phase: "running", activity: "juggling" }, {}],
  [
    "without a phase: up is running",
    { phase: "starting", ready: false },
    { containerStatus: "Up" },
    { phase: "running", running: "now" },
  ],
  [
    "without a phase: exited with a code is an error",
    {},
    { containerStatus: "Exited (1) now" },
    {
      phase: "error",
      running: "none",
      containerStatus: "Exited (1) now",
      exitCode: 1,
      message: "Agent crashed with exit code 1",
    },
  ],
  [
    "without a phase: created is provisioning",
    { phase: "created" },
    { containerStatus: "created" },
    { phase: "provisioning", containerStatus: "created" },
  ],
  [
    "without a phase: created is nothing for one that runs",
    {},
    { containerStatus: "created" },
    { containerStatus: "created" },
  ],
  [
    "empty fields are filled",
    { harnessAuth: null, profile: null },
    { phase: "running", harnessAuth: "x", profile: "y" },
    { harnessAuth: "x", profile: "y" },
  ],
])("from outside: %s", (_, state, report, patch) => {
  expect(applyReport(stored(state), outside(report))).toEqual(patch);
});

test("from outside: a start under way is not ended by a heartbeat about the container before", () => {
  const report = outside({ phase: "stopped", containerStatus: "Exited (255) 3 minutes ago" });
  expect(applyReport(stored({ phase: "starting", sinceChangeMs: 5_000 }), report)).toEqual({});
  expect(applyReport(stored({ phase: "starting", sinceChangeMs: 200_000 }), report)).toMatchObject({ phase: "error" });
  expect(applyReport(stored({ phase: "running", sinceChangeMs: 5_000 }), report)).toMatchObject({ phase: "error" });
});

test.each<[string, Partial<AgentState>, Partial<AgentReport>, object]>([
  [
    "running starts a run and says that it listens",
    { phase: "starting", ready: false },
    { phase: "running", activity: "working", currentTurns: 0 },
    { phase: "running", running: "now", activity: "working", activityStamped: true, listens: true },
  ],
  [
    "an activity alone implies running",
    { phase: "starting", ready: false },
    { activity: "thinking" },
    { phase: "running", running: "now", activity: "thinking", activityStamped: true, listens: true },
  ],
  ["a lower phase is dropped", {}, { phase: "cloning" }, {}],
  ["a suspended agent stays so", { phase: "suspended" }, { phase: "running", activity: "working" }, {}],
  [
    "a stopped agent that reports running runs",
    { phase: "stopped", message: "old", stalledFromActivity: "working", exitCode: 3 },
    { phase: "running" },
    { phase: "running", running: "now", message: null, stalledFromActivity: null, exitCode: null },
  ],
  [
    "the message given then stays",
    { phase: "error", message: "old" },
    { phase: "running", message: "new" },
    { phase: "running", running: "now", message: "new" },
  ],
  [
    "limits exceeded survive the stop, with the exit code",
    { activity: "working" },
    { phase: "stopped", activity: "limits_exceeded", exitCode: 1 },
    { phase: "stopped", running: "none", activity: "limits_exceeded", activityStamped: true, exitCode: 1 },
  ],
  [
    "a late activity does not replace how a stopped agent ended",
    { phase: "stopped", activity: "crashed" },
    { activity: "working" },
    { activityStamped: true },
  ],
  [
    "the same activity again is a sign of life",
    { activity: "working", toolName: "Bash" },
    { activity: "working" },
    { toolName: null, activityStamped: true },
  ],
  [
    "counters and the rest are taken over",
    {},
    {
      currentTurns: 3,
      currentModelCalls: 9,
      taskSummary: "t",
      startedAt: "2026-11-21T02:17:29Z",
      connectionState: "c",
    },
    {
      currentTurns: 3,
      currentModelCalls: 9,
      taskSummary: "t",
      startedAt: "2026-11-21T02:17:29Z",
      connectionState: "c",
    },
  ],
  ["a bare heartbeat changes nothing", { activity: "working" }, {}, {}],
])("from inside: %s", (_, state, report, patch) => {
  expect(applyReport(stored(state), inside(report))).toEqual(patch);
});

const RUN = "11111111-2222-4333-8444-888888888888";
const RUN_BEFORE = "11111111-2222-4333-8444-999999999999";

test.each<[string, Partial<AgentState>, Partial<AgentReport>]>([
  ["running, of an agent stopped since", { phase: "stopped", runId: null }, { phase: "running", activity: "working" }],
  ["an activity, of an agent suspended since", { phase: "suspended", runId: null }, { activity: "working" }],
  ["running, of the run before a failed one", { phase: "error", runId: RUN }, { phase: "running" }],
  ["stopped, when the next run has begun", { phase: "starting", runId: RUN }, { phase: "stopped" }],
  ["stopped, when the next run is up", { phase: "running", runId: RUN }, { phase: "stopped", exitCode: 1 }],
  ["working, when the next run is coming up", { phase: "starting", runId: RUN }, { activity: "working" }],
])("a late report of a run that is over changes nothing: %s", (_, state, report) => {
  expect(applyReport(stored(state), inside({ ...report, runId: RUN_BEFORE }))).toEqual({});
});

test("a report of the present run counts, as does one whose run nobody knows", () => {
  for (const runId of [RUN, undefined])
    expect(applyReport(stored({ runId: RUN }), inside({ phase: "stopped", runId }))).toMatchObject({
      phase: "stopped",
    });
});

test("a container that was kept through a start is heard, whatever its token says", () => {
  const report = inside({ phase: "running", activity: "thinking", runId: RUN_BEFORE });
  expect(applyReport(stored({ runId: RUN }), report)).toMatchObject({ activity: "thinking" });
});

test.each([
  ["Up 5 seconds", "Up 6 seconds"],
  ["Up About a minute (healthy)", "Up 2 minutes (healthy)"],
  ["Exited (0) Less than a second ago", "Exited (0) 3 hours ago"],
])("a longer duration is no news: %s, %s", (before, after) => {
  const halted = before.startsWith("Exited") ? { phase: "stopped" as const, exitCode: 0 } : {};
  const report = outside({ containerStatus: after });
  expect(applyReport(stored({ containerStatus: before, ...halted }), report)).toEqual({});
  expect(refreshedStatus({ containerStatus: before }, report)).toBe(after);
});

test("another state of the container is news", () => {
  const report = outside({ containerStatus: "Up 2 minutes (unhealthy)" });
  expect(applyReport(stored({ containerStatus: "Up 1 minute (healthy)" }), report)).toEqual({
    containerStatus: "Up 2 minutes (unhealthy)",
  });
  expect(refreshedStatus({ containerStatus: "Up 1 minute (healthy)" }, report)).toBeUndefined();
});

test("a status of a million spaces is compared as fast as any", () => {
  const spaces = " ".repeat(1_000_000);
  const [minute, hours] = ["about a minute ago", "2 hours ago"].map((ago) => `Up${spaces}x${spaces}${ago}`);
  const report = outside({ containerStatus: hours });
  expect(refreshedStatus({ containerStatus: minute ?? "" }, report)).toBe(hours);
  expect(refreshedStatus({ containerStatus: `Up${spaces}y` }, report)).toBeUndefined();
});
