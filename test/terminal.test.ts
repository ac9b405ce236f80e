import { readFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  type AttachOptions,
  AttachRefused,
  api,
  eventually,
  patternBytes,
  type Replica,
  type ReplicaProcess,
  Scene,
  type SimulatedRuntimeBrokerOptions,
  SimulatedTerminals,
  startReplicaProcess,
  TerminalClient,
} from "@rootstock/testkit";

/** The terminal of an agent from any replica (design section 8, spec/06 1.7, spec/08 1.6). */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const MIB = 1_048_576;

interface Stage {
  readonly owner: Replica;
  readonly entry: Replica;
  /** A replica that reaches the owner through the database only. */
  readonly detour: Replica;
  readonly agent: string;
  readonly terminals: SimulatedTerminals;
  readonly runtimeBroker: Awaited<ReturnType<Scene["runtimeBroker"]>>;
}

/** Three replicas, a runtime broker on the first, and an agent. */
const stage = async (
  like: SimulatedRuntimeBrokerOptions["like"] = "rootstock",
  env: Readonly<Record<string, string>> = {},
): Promise<Stage> => {
  const owner = await scene.replica(env);
  const entry = await scene.replica(env);
  const detour = await scene.replica({ ...env, ROOTSTOCK_STREAM_RELAY: "postgres" });
  return { owner, entry, detour, ...(await agentOn(owner, entry, { like })) };
};

const agentOn = async (
  owner: Replica,
  entry: Replica,
  options: Partial<SimulatedRuntimeBrokerOptions> = {},
): Promise<Omit<Stage, "owner" | "entry" | "detour">> => {
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner, options);
  const terminals = new SimulatedTerminals(runtimeBroker, { credits: options.like !== "unmodified" });
  const agent = await scene.agent(entry, project, "a1");
  return { agent, terminals, runtimeBroker };
};

const attach = async (replica: Replica, agent: string, options: AttachOptions = {}): Promise<TerminalClient> => {
  const client = await TerminalClient.attach(replica, agent, options);
  scene.onEnd(async () => client.cut());
  return client;
};

const refusal = async (replica: Replica, agent: string, options: AttachOptions = {}): Promise<AttachRefused> => {
  const outcome = await TerminalClient.attach(replica, agent, options).catch((err: unknown) => err);
  if (!(outcome instanceof AttachRefused)) throw new Error("the upgrade was not refused");
  return outcome;
};

const process = async (name: string): Promise<ReplicaProcess> => {
  const replica = await startReplicaProcess({ databaseUrl: scene.database.url, name });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  return replica;
};

const WAYS = ["owner", "entry", "detour"] as const;
const KINDS = ["rootstock", "unmodified"] as const;

describe.each(KINDS)("a runtime broker like %s", (like) => {
  test.each(WAYS)("attached through the %s replica: bytes both ways, sizes, and the end", async (where) => {
    const s = await stage(like);
    const client = await attach(s[where], s.agent, { query: "cols=100&rows=30" });
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

  test.each(WAYS)("a paste of 3 MB through the %s replica arrives whole, in frames that can be read", async (where) => {
    const s = await stage(like);
    const client = await attach(s[where], s.agent);
    const terminal = await s.terminals.nth(0);
    const paste = Buffer.concat(Array.from({ length: 48 }, (_, n) => patternBytes(n * 65_536, 65_536)));
    for (let at = 0; at < paste.byteLength; at += 65_536) client.type(paste.subarray(at, at + 65_536));
    await eventually(() => terminal.input().byteLength === paste.byteLength);
    expect(terminal.input().equals(paste)).toBe(true);
    expect(s.runtimeBroker.closes).toEqual([]);
  });
});

test.each(WAYS)("the viewer leaves through the %s replica: the stream ends at the runtime broker", async (where) => {
  const s = await stage();
  const [leaving, vanishing] = [await attach(s[where], s.agent), await attach(s[where], s.agent)];
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
  const s = await stage();
  for (const [n, where] of WAYS.entries()) {
    const client = await attach(s[where], s.agent);
    (await s.terminals.nth(n)).close(code, reason);
    expect(await client.closed).toEqual({ code: expected, reason: text });
    expect(client.errors.map((e) => e.code)).toEqual(word ? [word] : []);
  }
});

test("the runtime broker goes away: viewers everywhere are told to come back, and do", async () => {
  const s = await stage();
  const clients = await Promise.all(WAYS.map((where) => attach(s[where], s.agent)));
  await s.terminals.nth(2);
  const back = s.runtimeBroker.onSession.next();
  s.runtimeBroker.cut();
  for (const client of clients) {
    expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
    expect(client.errors).toEqual([]);
  }
  await back;
  const again = await eventually(() => attach(s.entry, s.agent));
  const terminal = await s.terminals.nth(3);
  terminal.print("here again");
  await again.shows("here again");
});

test("many viewers of one terminal; one that only looks cannot type and does not set the size", async () => {
  const s = await stage();
  const clients = await Promise.all(Array.from({ length: 20 }, (_, n) => attach(s[WAYS[n % 3] ?? "owner"], s.agent)));
  const watching = await attach(s.detour, s.agent, { query: "readonly=true" });
  const last = await s.terminals.nth(20);
  expect(last.opened).toMatchObject({ readonly: true });
  for (const terminal of s.terminals.opened) terminal.print("for all");
  await Promise.all([...clients, watching].map((c) => c.shows("for all")));
  watching.type("rm -rf /");
  watching.resize(10, 10);
  watching.sendRaw("nonsense");
  expect((await watching.closed).code).toBe(4400);
  await last.closed;
  expect(last.input().byteLength).toBe(0);
  expect(last.sizes).toEqual([]);
});

test.each([
  ["no JSON", "hello"],
  ["no object", "[]"],
  ["data that is none", '{"type":"data","data":5}'],
  ["a resize without size", '{"type":"resize"}'],
])("a viewer that sends %s is told so and closed", async (_, raw) => {
  const s = await stage();
  const client = await attach(s.entry, s.agent);
  const terminal = await s.terminals.nth(0);
  client.sendRaw('{"type":"unheard_of"}');
  client.sendRaw(raw);
  expect(await client.closed).toEqual({ code: 4400, reason: "invalid_message" });
  expect(client.errors).toEqual([{ type: "error", code: "invalid_message", message: "invalid_message" }]);
  await terminal.closed;
});

test("sizes that no terminal has are brought into bounds", async () => {
  const s = await stage();
  const sizes = ["", "cols=0&rows=0", "cols=x&rows=-1", "cols=99999&rows=12.7"];
  for (const query of sizes) await attach(s.entry, s.agent, { query });
  await s.terminals.nth(3);
  expect(s.terminals.opened.map(({ opened: { cols, rows } }) => [cols, rows])).toEqual([
    [80, 24],
    [80, 24],
    [80, 24],
    [1000, 12],
  ]);
});

test("preflight and upgrade answer alike: 200, 401, 403, 404, 422, 503", async () => {
  const s = await stage();
  const path = (agent: string) => `/api/v1/agents/${agent}/pty?cols=80&rows=24`;
  for (const where of WAYS) {
    const good = await api(s[where], "GET", path(s.agent));
    expect([good.status, good.get("path")]).toEqual([200, "broker"]);
  }
  await scene.database.query("insert into runtime_brokers (id, name, slug) values (gen_random_uuid(), 'off', 'off')");
  const [{ id: away } = {}] = await scene.database.query<{ id: string }>(
    "select id from runtime_brokers where name = 'off'",
  );
  const copy = async (slug: string, runtimeBrokerId: string | null): Promise<string> => {
    const [row] = await scene.database.query<{ id: string }>(
      `insert into agents (id, project_id, slug, name, phase, runtime_broker_id)
       select gen_random_uuid(), project_id, $1, $1, 'running', $2 from agents limit 1 returning id`,
      [slug, runtimeBrokerId],
    );
    return row?.id ?? "";
  };
  const homeless = await copy("homeless", null);
  const offline = await copy("offline", away ?? null);
  const cases: readonly [string, AttachOptions, number, string][] = [
    [s.agent, { token: null }, 401, "unauthorized"],
    [s.agent, { token: `scion_dev_${"00".repeat(32)}` }, 401, "unauthorized"],
    ["00000000-0000-4000-8000-000000000000", {}, 404, "not_found"],
    [homeless, {}, 422, "no_runtime_broker"],
    [offline, {}, 503, "runtime_broker_unavailable"],
  ];
  for (const [agent, options, status, code] of cases) {
    const asked = await fetch(`${s.entry.url}${path(agent)}`, {
      headers:
        options.token === null ? {} : { authorization: `Bearer ${options.token ?? `scion_dev_${"ab".repeat(32)}`}` },
    });
    expect([asked.status, JSON.parse(await asked.text()).error.code]).toEqual([status, code]);
    const refused = await refusal(s.entry, agent, options);
    expect([refused.status, JSON.parse(refused.body).error.code]).toEqual([status, code]);
  }
  const refused = await refusal(s.entry, offline);
  expect(JSON.parse(refused.body).error.details.reason).toBe("broker_not_connected");
  const own = await fetch(`${s.entry.url}${path(s.agent)}`, {
    headers: s.runtimeBroker.sign("GET", `/api/v1/agents/${s.agent}/pty`, "cols=80&rows=24", Buffer.alloc(0)),
  });
  expect(own.status).toBe(403);
});

test("only replicas get at the internal streams, and one that is not the owner says so", async () => {
  const s = await stage();
  const dial = async (headers: Record<string, string>) => {
    const { WebSocket } = await import("ws");
    const ws = new WebSocket(`${s.entry.url.replace("http", "ws")}/internal/v1/streams`, { headers });
    ws.on("error", () => {});
    return new Promise((resolve) => {
      ws.once("unexpected-response", (_, response) => {
        resolve(response.statusCode);
        ws.terminate();
      });
      ws.once("open", () => resolve(101));
    });
  };
  expect(await dial({})).toBe(401);
  expect(await dial({ authorization: `Bearer scion_dev_${"ab".repeat(32)}` })).toBe(403);
  expect(await dial({ "x-rootstock-replica-token": "a.b.c" })).toBe(401);
});

test("affinity that lags behind: the entry replica follows the runtime broker to its new owner", async () => {
  const s = await stage();
  const third = await scene.replica();
  const [row] = await scene.database.query<{ hub: string; session: string }>(
    "select connected_hub_id as hub, connected_session_id as session from runtime_brokers",
  );
  // As it is for a moment after a move: the database names a replica that no longer holds the socket.
  await scene.database.query("update runtime_brokers set connected_hub_id = $1", [third.hub.instanceId]);
  const attaching = attach(s.entry, s.agent);
  await scene.database.query("update runtime_brokers set connected_hub_id = $1, connected_session_id = $2", [
    row?.hub,
    row?.session,
  ]);
  const client = await attaching;
  (await s.terminals.nth(0)).print("found");
  await client.shows("found");
});

test("time limits: an idle terminal and one that is open for too long are closed, with the reason", async () => {
  const s = await stage("rootstock", { ROOTSTOCK_TERMINAL_IDLE: "1.5s", ROOTSTOCK_TERMINAL_LIMIT: "4s" });
  const [idle, busy] = [await attach(s.entry, s.agent), await attach(s.owner, s.agent)];
  const terminal = await s.terminals.nth(1);
  let over = false;
  void busy.closed.then(() => {
    over = true;
  });
  const keepBusy = eventually(() => {
    if (!over) terminal.print(".");
    return over;
  });
  expect(await idle.closed).toEqual({ code: 4408, reason: "idle_timeout" });
  expect(idle.errors.map((e) => e.code)).toEqual(["timeout"]);
  expect(await busy.closed).toEqual({ code: 4408, reason: "time_limit" });
  await keepBusy;
});

test("a replica that stops sends its viewers elsewhere", async () => {
  const s = await stage();
  for (const where of ["entry", "detour", "owner"] as const) {
    const client = await attach(s[where], s.agent);
    const terminal = s.terminals.opened.at(-1);
    await s[where].stop();
    expect(await client.closed).toMatchObject({
      code: 4503,
      reason: where === "owner" ? "broker_disconnected" : "runtime_unavailable",
    });
    if (where !== "owner") await terminal?.closed;
  }
});

describe("readers that do not read", () => {
  test.each(WAYS)(
    "through the %s replica: the writer stops, others go on, and nothing is lost when reading resumes",
    async (where) => {
      const s = await stage();
      const slow = await attach(s[where], s.agent, { discard: true });
      const quick = await attach(s[where], s.agent);
      const [flooded, typing] = [await s.terminals.nth(0), await s.terminals.nth(1)];
      const total = where === "detour" ? 24 * MIB : 64 * MIB;
      let at = 0;
      let faults = 0;
      slow.onOutput.on((data) => {
        if (!data.equals(patternBytes(at, data.byteLength))) faults += 1;
        at += data.byteLength;
      });
      slow.pause();
      const flood = flooded.flood(total);
      await eventually(() => flooded.stalled);
      // What the kernel's socket buffers took, and one window.
      expect(flooded.printed).toBeLessThan(32 * MIB);
      for (let n = 0; n < 20; n += 1) {
        quick.type(`key ${n};`);
        await typing.onInput.next();
        typing.print(`shown ${n};`);
        await quick.shows(`shown ${n};`);
      }
      slow.resume();
      await flood;
      await eventually(() => slow.received === total, 60_000);
      expect(faults).toBe(0);
    },
  );

  test.each(WAYS)(
    "an unmodified runtime broker, through the %s replica: closed at the bound, the others untouched",
    async (where) => {
      const s = await stage("unmodified");
      const slow = await attach(s[where], s.agent, { discard: true });
      const quick = await attach(s[where], s.agent);
      const [flooded, other] = [await s.terminals.nth(0), await s.terminals.nth(1)];
      slow.pause();
      const flood = flooded.flood(256 * MIB);
      expect(await flooded.closed).toMatchObject({ code: 1013, reason: "slow_consumer" });
      await flood;
      expect(flooded.printed).toBeLessThan(128 * MIB);
      slow.resume();
      expect(await slow.closed).toEqual({ code: 1013, reason: "slow_consumer" });
      other.print("still here");
      await quick.shows("still here");
      expect(s.runtimeBroker.closes).toEqual([]);
    },
  );

  test.each(WAYS)(
    "a program that takes no input, through the %s replica: the viewer's socket is not read",
    async (where) => {
      const s = await stage();
      const client = await attach(s[where], s.agent);
      const other = await attach(s[where], s.agent);
      const [deaf, terminal] = [await s.terminals.nth(0), await s.terminals.nth(1)];
      deaf.holdInput();
      const piece = Buffer.alloc(32_768, "x");
      // Far more than sockets and windows take.
      for (let n = 0; n < 1_000; n += 1) client.type(piece);
      await eventually(() => deaf.input().byteLength > 0);
      const unsent: number[] = [];
      for (let n = 0; n < 20; n += 1) {
        other.type("through");
        await terminal.onInput.next();
        unsent.push(client.unsentBytes);
      }
      expect(unsent.at(-1)).toBeGreaterThan(MIB);
      expect(deaf.input().byteLength).toBeLessThan(MIB / 4);
      deaf.takeInput();
      // All of it; through the database that would take a while.
      const rest = where === "detour" ? 2 * MIB : 1_000 * piece.byteLength;
      await eventually(() => deaf.input().byteLength >= rest, 60_000);
    },
  );

  test("1 GB through a slow reader: replicas keep their size", async () => {
    const owner = await process("owner");
    const entry = await process("entry");
    const s = await agentOn(owner, entry);
    const client = await attach(entry, s.agent, { discard: true });
    const terminal = await s.terminals.nth(0);
    const total = 1_024 * MIB;
    await terminal.flood(16 * MIB);
    await eventually(() => client.received === 16 * MIB);
    const before = await Promise.all([owner, entry].map(residentBytes));
    let peak = before.map(() => 0);
    let pauses = 0;
    let at = client.received;
    let faults = 0;
    client.onOutput.on((data) => {
      if (!data.equals(patternBytes(at - 16 * MIB, data.byteLength))) faults += 1;
      at += data.byteLength;
      if (Math.floor(at / (64 * MIB)) > pauses) {
        pauses += 1;
        client.pause();
        // Goes on once the writer has come to a halt, or has nothing left.
        void eventually(() => terminal.stalled || terminal.printed >= total + 16 * MIB).then(async () => {
          const now = await Promise.all([owner, entry].map(residentBytes));
          peak = peak.map((bytes, i) => Math.max(bytes, now[i] ?? 0));
          client.resume();
        });
      }
    });
    await terminal.flood(total);
    await eventually(() => client.received === total + 16 * MIB, 120_000);
    expect(faults).toBe(0);
    expect(pauses).toBeGreaterThan(10);
    for (const [i, bytes] of peak.entries()) expect(bytes - (before[i] ?? 0)).toBeLessThan(96 * MIB);
  }, 240_000);
});

const residentBytes = async ({ pid }: ReplicaProcess): Promise<number> => {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1_024;
};

test("the owner is killed in the middle: the viewer is told to come back, and the new owner serves it", async () => {
  const owner = await process("owner");
  const entry = await process("entry");
  const place = { url: owner.url };
  const s = await agentOn(owner, entry, { hubUrl: () => place.url });
  const client = await attach(entry, s.agent);
  (await s.terminals.nth(0)).print("before");
  await client.shows("before");
  place.url = entry.url;
  owner.signal("SIGKILL");
  expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
  const again = await eventually(() => attach(entry, s.agent));
  (await s.terminals.nth(1)).print("after");
  await again.shows("after");
});

describe("replicas that cannot reach each other", () => {
  const NOWHERE = { ROOTSTOCK_INTERNAL_URL: "http://127.0.0.1:9" };

  test("the database passes terminals, logs and exec on by itself", async () => {
    const [owner, entry] = [await scene.replica(NOWHERE), await scene.replica(NOWHERE)];
    const { agent, terminals } = await agentOn(owner, entry, {
      handle: (request) =>
        request.path.endsWith("/logs")
          ? { status: 200, body: "x".repeat(600_000), headers: { "Content-Type": "text/plain" } }
          : request.path.endsWith("/exec")
            ? { status: 200, body: { output: "done", exitCode: 3 } }
            : { status: 201, body: { agent: { name: "a1", phase: "running" }, created: true } },
    });
    for (let round = 0; round < 2; round += 1) {
      const client = await attach(entry, agent);
      const terminal = await terminals.nth(round);
      terminal.print("by detour");
      await client.shows("by detour");
      client.type("and back");
      await eventually(() => terminal.input().toString() === "and back");
    }
    const logs = await api(entry, "GET", `/api/v1/agents/${agent}/logs`);
    expect([logs.status, logs.text("logs").length]).toEqual([200, 600_000]);
    const exec = await api(entry, "POST", `/api/v1/agents/${agent}/exec`, { command: ["true"] });
    expect([exec.status, exec.get("output"), exec.get("exitCode")]).toEqual([200, "done", 3]);
  });

  test("switched off, it is not used", async () => {
    const [owner, entry] = [await scene.replica(NOWHERE), await scene.replica({ ROOTSTOCK_STREAM_RELAY: "peer" })];
    const { agent } = await agentOn(owner, entry);
    expect((await refusal(entry, agent)).status).toBe(503);
    expect((await api(entry, "GET", `/api/v1/agents/${agent}/logs`)).status).toBe(503);
  });

  test("frames that are lost end the stream; the viewer is told to come back", async () => {
    const s = await stage();
    const client = await attach(s.detour, s.agent);
    const terminal = await s.terminals.nth(0);
    terminal.print("one;");
    await client.shows("one;");
    await scene.database.query(
      `create function lose() returns trigger language plpgsql as $$ begin return null; end $$`,
    );
    await scene.database.query(
      `create trigger lose before insert on stream_frames for each row when (new.kind = 'data') execute function lose()`,
    );
    terminal.print("two;");
    await eventually(async () => {
      client.type("x");
      return terminal.input().byteLength === 0;
    });
    await scene.database.query("drop trigger lose on stream_frames");
    terminal.print("three;");
    expect(await client.closed).toEqual({ code: 4503, reason: "runtime_stream_dropped" });
    await terminal.closed;
    expect(client.output().toString()).toBe("one;");
    const again = await attach(s.detour, s.agent);
    (await s.terminals.nth(1)).print("again");
    await again.shows("again");
  });

  test("the owner is killed: the viewer hears of it and is served by the new owner; a dead viewer's stream ends", async () => {
    const owner = await process("owner");
    const third = await process("third");
    const detour = await scene.replica({ ROOTSTOCK_STREAM_RELAY: "postgres" });
    const place = { url: owner.url };
    const s = await agentOn(owner, detour, { hubUrl: () => place.url });
    const client = await attach(detour, s.agent);
    (await s.terminals.nth(0)).print("before");
    await client.shows("before");
    place.url = third.url;
    owner.signal("SIGKILL");
    expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
    const again = await eventually(() => attach(detour, s.agent));
    (await s.terminals.nth(1)).print("after");
    await again.shows("after");
  }, 60_000);
});
