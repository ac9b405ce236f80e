import { describe, expect, test } from "@jest/globals";
import { eventually, patternBytes } from "@rootstock/testkit";
import { Stages, WAYS } from "./stage.ts";

/** The terminal of an agent from any replica (design section 8, spec/06 1.7, spec/08 1.6). */

const stages = new Stages();
const KINDS = ["rootstock", "unmodified"] as const;

describe.each(KINDS)("a runtime broker like %s", (like) => {
  test.each(WAYS)("attached through the %s replica: bytes both ways, sizes, and the end", async (where) => {
    const s = await stages.stage({ like });
    const client = await stages.attach(s[where], s.agent, { query: "cols=100&rows=30" });
    const terminal = await s.terminals.nth(0);
    expect(terminal.opened).toMatchObject({ streamType: "pty", slug: "a1", cols: 100, rows: 30 });
    expect(terminal.opened.projectId).toBe(terminal.opened.groveId);

    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
    terminal.print(everyByte);
    await eventually(() => client.output().equals(everyByte));
    client.type(everyByte);
    await eventually(() => terminal.input().equals(everyByte));

    client.resize(120, 40);
    await eventually(() => terminal.sizes.length === 1);
    expect(terminal.sizes).toEqual([{ cols: 120, rows: 40 }]);

    terminal.close(0, "session ended");
    expect(await client.closed).toEqual({ code: 1000, reason: "session ended" });
    expect(client.errors).toEqual([]);
  });

  test.each(WAYS)(
    "a paste of 3 MB through the %s replica arrives whole, in frames that can be read",
    async (where) => {
      const s = await stages.stage({ like });
      const client = await stages.attach(s[where], s.agent);
      const terminal = await s.terminals.nth(0);
      const paste = Buffer.concat(Array.from({ length: 48 }, (_, n) => patternBytes(n * 65_536, 65_536)));
      for (let at = 0; at < paste.byteLength; at += 65_536) client.type(paste.subarray(at, at + 65_536));
      await eventually(() => terminal.inputBytes === paste.byteLength, 60_000);
      expect(terminal.input().equals(paste)).toBe(true);
      expect(s.runtimeBroker.closes).toEqual([]);
    },
    90_000,
  );
});

test.each(WAYS)("the viewer leaves through the %s replica: the stream ends at the runtime broker", async (where) => {
  const s = await stages.stage();
  const [leaving, vanishing] = [await stages.attach(s[where], s.agent), await stages.attach(s[where], s.agent)];
  const [first, second] = [await s.terminals.nth(0), await s.terminals.nth(1)];
  leaving.close(1000);
  expect(await first.closed).toMatchObject({ reason: "session closed", code: 0 });
  expect(await leaving.closed).toMatchObject({ code: 1000 });
  vanishing.cut();
  expect(await second.closed).toMatchObject({ code: 0 });
});

test.each([
  [404, "container not found", 4404, "agent_not_found", "agent_not_found"],
  [4410, "agent_stopped", 4410, "agent_stopped", "stream_failed"],
  [4503, "session_not_ready", 4503, "session_not_ready", undefined],
  [1013, "slow_consumer", 1013, "slow_consumer", undefined],
  [1009, "input_overflow", 1009, "input_overflow", "invalid_message"],
  [500, "agent lookup not configured", 1011, "internal_error", undefined],
  [1006, "not a code that can be sent", 1011, "internal_error", undefined],
  [4499, "ü".repeat(100), 4499, "ü".repeat(61), "stream_failed"],
])("the runtime broker ends a stream with %i %s: the viewer gets %i", async (code, reason, expected, text, word) => {
  const s = await stages.stage();
  for (const [n, where] of WAYS.entries()) {
    const client = await stages.attach(s[where], s.agent);
    (await s.terminals.nth(n)).close(code, reason);
    expect(await client.closed).toEqual({ code: expected, reason: text });
    expect(client.errors.map((e) => e.code)).toEqual(word ? [word] : []);
  }
});

test("the runtime broker goes away: viewers everywhere are told to come back, and do", async () => {
  const s = await stages.stage();
  const clients = await Promise.all(WAYS.map((where) => stages.attach(s[where], s.agent)));
  await s.terminals.nth(2);
  const back = s.runtimeBroker.onSession.next();
  s.runtimeBroker.cut();
  for (const client of clients) {
    expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
    expect(client.errors).toEqual([]);
  }
  await back;
  const again = await eventually(() => stages.attach(s.entry, s.agent));
  const terminal = await s.terminals.nth(3);
  terminal.print("here again");
  await again.shows("here again");
});

test("many viewers of one terminal; one that only looks cannot type and does not set the size", async () => {
  const s = await stages.stage();
  const clients = await Promise.all(
    Array.from({ length: 20 }, (_, n) => stages.attach(s[WAYS[n % 3] ?? "owner"], s.agent)),
  );
  const watching = await stages.attach(s.detour, s.agent, { query: "readonly=true" });
  const last = await s.terminals.nth(20);
  expect(last.opened).toMatchObject({ readonly: true });
  for (const terminal of s.terminals.opened) terminal.print("for all");
  await Promise.all([...clients, watching].map((c) => c.shows("for all")));
  watching.type("rm -rf /");
  watching.resize(10, 10);
  watching.sendRaw("nonsense");
  expect((await watching.closed).code).toBe(4400);
  await last.closed;
  expect(last.inputBytes).toBe(0);
  expect(last.sizes).toEqual([]);
});

test.each(["readonly", "readonly=1", "readonly=True", "readonly=yes"])(
  "who says %s only looks; who says that they do not, types",
  async (query) => {
    const s = await stages.stage();
    const watching = await stages.attach(s.entry, s.agent, { query });
    const first = await s.terminals.nth(0);
    expect(first.opened).toMatchObject({ readonly: true });
    watching.type("rm -rf /");
    watching.sendRaw("nonsense");
    await first.closed;
    expect(first.inputBytes).toBe(0);
    for (const [n, no] of ["readonly=false", "readonly=0", ""].entries()) {
      const typing = await stages.attach(s.entry, s.agent, { query: no });
      const terminal = await s.terminals.nth(n + 1);
      typing.type("ls");
      await eventually(() => terminal.input().toString() === "ls");
    }
  },
);

test.each([
  ["no JSON", "hello"],
  ["no object", "[]"],
  ["data that is none", '{"type":"data","data":5}'],
  ["a resize without size", '{"type":"resize"}'],
])("a viewer that sends %s is told so and closed", async (_, raw) => {
  const s = await stages.stage();
  const client = await stages.attach(s.entry, s.agent);
  const terminal = await s.terminals.nth(0);
  client.sendRaw('{"type":"unheard_of"}');
  client.sendRaw(raw);
  expect(await client.closed).toEqual({ code: 4400, reason: "invalid_message" });
  expect(client.errors).toEqual([{ type: "error", code: "invalid_message", message: "invalid_message" }]);
  await terminal.closed;
});

test("sizes that no terminal has are brought into bounds", async () => {
  const s = await stages.stage();
  const sizes = ["", "cols=0&rows=0", "cols=x&rows=-1", "cols=99999&rows=12.7"];
  for (const query of sizes) await stages.attach(s.entry, s.agent, { query });
  await s.terminals.nth(3);
  expect(s.terminals.opened.map(({ opened: { cols, rows } }) => [cols, rows])).toEqual([
    [80, 24],
    [80, 24],
    [80, 24],
    [1000, 12],
  ]);
});
