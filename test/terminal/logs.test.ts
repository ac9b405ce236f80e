import { describe, expect, test } from "@jest/globals";
import { newsAfter, placeOf } from "@rootstock/protocol";
import { ApiReply, api, eventually, type FollowOptions, LogClient, type Replica } from "@rootstock/testkit";
import { MIB, Stages, WAYS } from "./stage.ts";

/** An agent's log from any replica: once, and as it grows (spec/02 2.10, section 8). */

const stages = new Stages();

/** For megabytes on a machine that does other things, too. */
const PATIENCE_MS = 60_000;

const follow = async (replica: Replica, agent: string, options: FollowOptions = {}): Promise<LogClient> => {
  const client = await LogClient.follow(replica, agent, options);
  if (client instanceof ApiReply) throw new Error(`refused with ${client.status}: ${client.body}`);
  return client;
};

describe.each(WAYS)("through the %s replica", (where) => {
  test("a followed log: lines as they come, each an entry that clients of log streams know, and its end", async () => {
    const s = await stages.stage();
    const client = await follow(s[where], s.agent, { query: "tail=7" });
    const log = await s.terminals.nth(0);
    expect(log.opened).toMatchObject({ streamType: "logs", slug: "a1", tail: 7 });
    const next = client.onEvent.next();
    log.print("first\nsec");
    expect(await next).toEqual({
      event: "log",
      id: expect.stringMatching(/^[\w-]{1,512}$/),
      data: {
        timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        severity: "DEFAULT",
        message: "first",
        insertId: "1",
      },
    });
    const euro = Buffer.from("€");
    log.print("ond\n");
    log.print(euro.subarray(0, 1));
    log.print(Buffer.concat([euro.subarray(1), Buffer.from("\nno end")]));
    log.close(0, "session ended");
    expect(await client.ended).toBe(true);
    expect(client.lines).toEqual(["first", "second", "€", "no end"]);
    expect(client.others).toEqual([{ event: "end", data: { code: 1000, reason: "session ended", reconnect: false } }]);
  });

  test("whoever comes back with the last id goes on after its line; what had no end yet comes whole", async () => {
    const s = await stages.stage();
    const client = await follow(s[where], s.agent);
    const log = await s.terminals.nth(0);
    const printed = Array.from({ length: 40 }, (_, n) => `line ${n} €\n`).join("");
    log.print(printed);
    log.print("no e");
    await client.shows("line 39");
    s.runtimeBroker.cut();
    await client.ended;
    expect(client.lines.at(-1)).toBe("line 39 €");
    const options = { query: "tail=0", lastEventId: client.lastEventId };
    const again = await eventually(() => follow(s[where], s.agent, options));
    const { after } = (await s.terminals.nth(1)).opened;
    const news = (text: string, id: unknown) =>
      newsAfter(Buffer.from(text), placeOf(Buffer.from(String(id), "base64url")))?.toString();
    expect(news(`${printed}no end\n`, after)).toBe("no end\n");
    // What it had before counts as well: one short line would stand in a log many times.
    (await s.terminals.nth(1)).print("no end\n");
    await again.shows("no end");
    expect(news(`no end\n${printed}no end\nmore\n`, again.lastEventId)).toBe("more\n");
    again.cut();
    const nonsense = await follow(s[where], s.agent, { lastEventId: "no/id" });
    expect((await s.terminals.nth(2)).opened).not.toHaveProperty("after");
    nonsense.cut();
  });

  test("a client that leaves ends it at the runtime broker", async () => {
    const s = await stages.stage();
    const client = await follow(s[where], s.agent);
    const log = await s.terminals.nth(0);
    client.cut();
    expect(await log.closed).toMatchObject({ reason: "session closed", code: 0 });
  });

  test(
    "a client that does not read stops the writer, and misses nothing when it reads on",
    async () => {
      const s = await stages.stage();
      const client = await follow(s[where], s.agent);
      const log = await s.terminals.nth(0);
      client.pause();
      const line = `${"x".repeat(999)}\n`;
      const printed = { lines: 0 };
      const print = async (): Promise<void> => {
        while (!log.stalled) {
          log.print(line.repeat(32));
          printed.lines += 32;
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      await print();
      expect(log.printed).toBeLessThan(24 * MIB);
      client.resume();
      await eventually(() => client.lines.length === printed.lines, PATIENCE_MS);
      expect(new Set(client.lines)).toEqual(new Set(["x".repeat(999)]));
      // Lines of nothing become events two hundred times as long: they are made only as they are read.
      client.pause();
      for (let n = 0; n < 4; n += 1) log.print(Buffer.alloc(32_768, "\n"));
      client.resume();
      await eventually(() => client.lines.length === printed.lines + 4 * 32_768, PATIENCE_MS);
      client.cut();
    },
    2 * PATIENCE_MS,
  );

  test("the runtime broker goes away: the client is told to come back", async () => {
    const s = await stages.stage();
    const client = await follow(s[where], s.agent);
    (await s.terminals.nth(0)).print("before\n");
    await client.shows("before");
    s.runtimeBroker.cut();
    expect(await client.ended).toBe(true);
    expect(client.others).toEqual([
      { event: "error", data: { code: 4503, reason: "broker_disconnected", reconnect: true } },
    ]);
  });
});

test("a runtime broker without streams of logs is asked again and again; every line comes once", async () => {
  let text = "one\ntwo\nthree\n";
  const s = await stages.stage({
    like: "unmodified",
    handle: (request) =>
      request.path.endsWith("/logs")
        ? { status: 200, body: text, headers: { "Content-Type": "text/plain" } }
        : { status: 201, body: { agent: { name: "a1", phase: "running" }, created: true } },
  });
  const client = await follow(s.entry, s.agent, { query: "tail=2" });
  await client.shows("three");
  expect(client.lines).toEqual(["two", "three"]);
  text += "four\nfive\n";
  await client.shows("five");
  // Another log in its place.
  text = "another\n";
  await client.shows("another");
  expect(client.lines).toEqual(["two", "three", "four", "five", "another"]);
  s.runtimeBroker.cut();
  expect(await client.ended).toBe(true);
  expect(client.others).toMatchObject([{ event: "error", data: { code: 4503, reconnect: true } }]);
  // What was written in between is told to whoever comes back.
  text += "in between\n";
  const again = await eventually(() => follow(s.entry, s.agent, { query: "tail=0", lastEventId: client.lastEventId }));
  await again.shows("in between");
  // A log that has begun anew may have said the same twice: what stands so near its beginning comes again.
  expect(again.lines).toEqual(["another", "in between"]);
});

test("the same lines again while nobody followed: through another replica every one comes, none twice", async () => {
  const same = "Thinking...\n".repeat(40);
  let text = `begun\n${same}`;
  const s = await stages.stage({
    like: "unmodified",
    handle: (request) =>
      request.path.endsWith("/logs")
        ? { status: 200, body: text, headers: { "Content-Type": "text/plain" } }
        : { status: 201, body: { agent: { name: "a1", phase: "running" }, created: true } },
  });
  const client = await follow(s.entry, s.agent);
  await eventually(() => client.lines.length === 41);
  client.cut();
  text += `result: 42\n${same}`;
  const again = await follow(s.owner, s.agent, { query: "tail=0", lastEventId: client.lastEventId });
  await eventually(() => again.lines.length >= 41);
  // Another poll's news is what comes next: nothing else was on its way.
  text += "end\n";
  await again.shows("end");
  expect(again.lines).toEqual(["result: 42", ...same.trimEnd().split("\n"), "end"]);
  again.cut();
  // What the release before took for a place goes on being one.
  const older = Buffer.from(text.slice(0, -4)).subarray(-384).toString("base64url");
  const late = await follow(s.owner, s.agent, { query: "tail=0", lastEventId: older });
  await late.shows("end");
  expect(late.lines).toContain("result: 42");
  late.cut();
});

test("refused like any other call: 401, 404, and 503 when the runtime broker is away", async () => {
  const s = await stages.stage();
  const { entry } = s;
  const status = async (agent: string, options: FollowOptions = {}) => {
    const outcome = await LogClient.follow(entry, agent, options);
    return outcome instanceof ApiReply ? outcome.status : 200;
  };
  expect(await status(s.agent, { token: null })).toBe(401);
  expect(await status("00000000-0000-4000-8000-000000000000")).toBe(404);
  expect(await status(s.agent, { query: "follow=perhaps" })).toBe(200);
  expect((await api(entry, "GET", `/api/v1/agents/${s.agent}/logs?follow=perhaps`)).status).toBe(400);
  await s.runtimeBroker.stop();
  await eventually(async () => (await status(s.agent)) === 503);
});

test("a replica that stops ends the logs that are followed through it, and says so", async () => {
  const s = await stages.stage();
  const entry = await stages.scene.replica();
  const client = await follow(entry, s.agent);
  const log = await s.terminals.nth(0);
  await entry.stop();
  expect(await client.ended).toBe(true);
  expect(client.others).toMatchObject([{ event: "error", data: { reason: "runtime_unavailable", reconnect: true } }]);
  await log.closed;
});
