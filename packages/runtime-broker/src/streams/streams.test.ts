import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import type { FakeTerminal } from "../testing/fakeHub.ts";
import { createBody, type Joined, joinedBroker, messageBody, PROJECT, query } from "../testing/setup.ts";

const HARNESSES = {
  cat: { command: "sh", args: ["-c", "echo started; exec cat"], taskArgs: [] },
  sizes: { command: "sh", args: ["-c", 'trap "stty size" WINCH; echo up; while :; do sleep 0.05; done'], taskArgs: [] },
  flood: {
    command: "sh",
    args: ["-c", "echo up; read -r x; head -c 6000000 /dev/zero | tr '\\0' z; echo; echo done; cat"],
    taskArgs: [],
  },
  colours: {
    command: "sh",
    args: [
      "-c",
      `echo up; read -r x; awk 'BEGIN { for (n = 0; n < 220000; n++) printf "\\033[38;2;%d;%d;200m#", n % 256, 100 + n / 2200 }'; echo painted; cat`,
    ],
    taskArgs: [],
  },
};

let joined: Joined;
let names = 0;
beforeAll(async () => {
  joined = await joinedBroker({ harnesses: JSON.stringify(HARNESSES) });
});
afterAll(() => joined.stop());

const agent = async (
  harnessConfig: string,
  look: { readonly cols?: number } = {},
): Promise<{ slug: string; terminal: FakeTerminal }> => {
  const slug = `t${++names}`;
  const body = createBody(slug, { config: { harnessConfig } });
  expect((await joined.session.request("POST", "/api/v1/agents", { body })).status).toBe(201);
  return { slug, terminal: joined.session.terminal(slug, PROJECT, look) };
};

test("a terminal shows what was there before, then what comes, and takes keys", async () => {
  const { slug, terminal } = await agent("cat");
  await terminal.shows("started");
  terminal.type("gr\u00fc\u00dfe\r");
  await terminal.shows("gr\u00fc\u00dfe\r\ngr\u00fc\u00dfe\r\n");
  const second = joined.session.terminal(slug, PROJECT);
  await second.shows("started");
  await second.shows("gr\u00fc\u00dfe");
  terminal.close();
  second.type("still here\r");
  await second.shows("still here\r\nstill here");
});

test("keys that arrive before the terminal is there are not lost, and a character cut in two is whole", async () => {
  const { terminal } = await agent("cat");
  const [first, second] = [Buffer.from("\u20ac").subarray(0, 1), Buffer.from("\u20ac").subarray(1)];
  for (const data of [Buffer.from("early "), first, second, Buffer.from("\r")]) {
    joined.session.send({ type: "stream", streamId: terminal.streamId, data: data.toString("base64") });
  }
  // The echo of the keys may have the program's own first word in its middle; what the program says of them has not.
  await terminal.shows("early \u20ac\r\n");
});

test("the program learns of the viewer's size; a size that no terminal has is brought into bounds", async () => {
  const { terminal } = await agent("sizes");
  await terminal.shows("up");
  joined.session.send({ type: "stream_resize", streamId: terminal.streamId, cols: 133, rows: 41 });
  await terminal.shows("41 133");
  joined.session.send({ type: "stream_resize", streamId: terminal.streamId, cols: 0, rows: 100_000 });
  await terminal.shows("1000 80");
});

test("Ctrl-B D leaves the terminal and not the agent; one who only looks types nothing", async () => {
  const { slug, terminal } = await agent("cat");
  await terminal.shows("started");
  terminal.type("\x02d");
  expect(await terminal.closed).toMatchObject({ code: 0, reason: "session ended" });
  const looking = joined.session.terminal(slug, PROJECT, { readonly: true });
  await looking.shows("started");
  looking.type("silent\r");
  const working = joined.session.terminal(slug, PROJECT);
  working.type("spoken\r");
  await looking.shows("spoken\r\nspoken");
  expect(looking.output).not.toContain("silent");
});

test("a stream ends with its session, with a reason", async () => {
  const { slug, terminal } = await agent("cat");
  await terminal.shows("started");
  await joined.session.request("POST", `/api/v1/agents/${slug}/stop`, { query });
  expect(await terminal.closed).toMatchObject({ code: 0, reason: "session ended" });
  expect(await joined.session.terminal(slug, PROJECT).closed).toMatchObject({ code: 4410, reason: "agent_stopped" });
  expect(await joined.session.terminal("nobody", PROJECT).closed).toMatchObject({ code: 404 });
});

test("streams of other types, and a second one under the same id, are refused with a reason", async () => {
  const { slug, terminal } = await agent("cat");
  await terminal.shows("started");
  const open = (streamId: string, streamType: string) =>
    joined.session.send({ type: "stream_open", streamId, streamType, slug, projectId: PROJECT });
  const closed = (streamId: string) =>
    joined.session.until(
      (f): f is typeof f & { type: "stream_close" } => f.type === "stream_close" && f.streamId === streamId,
    );
  const id = systemRandom.uuid();
  open(id, "events");
  expect(await closed(id)).toMatchObject({ code: 400 });
  open(terminal.streamId, "pty");
  expect(await closed(terminal.streamId)).toMatchObject({ code: 409 });
  joined.session.send({ type: "stream", streamId: "unknown", data: "eA==" });
  joined.session.send({ type: "stream_close", streamId: "unknown" });
  terminal.type("goes on\r");
  await terminal.shows("goes on\r\ngoes on");
});

test("a flood of output reaches its end, and holds up nothing else", async () => {
  const { slug, terminal } = await agent("flood");
  await terminal.shows("up");
  await joined.session.request("POST", `/api/v1/agents/${slug}/message`, {
    query,
    body: messageBody("go", undefined, { plain: true }),
  });
  expect((await joined.session.request("GET", "/healthz")).status).toBe(200);
  await terminal.shows("done");
});

test("a screen whose picture takes megabytes, as a wide one in all colours does, is shown to whoever comes later", async () => {
  const { slug, terminal } = await agent("colours", { cols: 400 });
  await terminal.shows("up");
  terminal.type("\r");
  await terminal.shows("painted");
  const later = joined.session.terminal(slug, PROJECT, { cols: 400 });
  await later.shows("painted");
  expect(later.output.length).toBeGreaterThan(3_200_000);
  later.type("typed\r");
  await later.shows("typed\r\ntyped");
});

test("streams end with the channel they came over", async () => {
  const { slug, terminal } = await agent("cat");
  await terminal.shows("started");
  const next = joined.hub.connected.next();
  joined.session.socket.close(1012);
  const session = await next;
  const again = session.terminal(slug, PROJECT);
  await again.shows("started");
  expect(terminal.output.includes("again")).toBe(false);
});
