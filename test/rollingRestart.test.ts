import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { LoadBalancer, Upstreams } from "@rootstock/cli";
import { HubClient } from "@rootstock/client";
import { freePort, systemClock, systemRandom } from "@rootstock/service";
import {
  type ApiReply,
  api,
  eventually,
  type ReplicaProcess,
  Scene,
  SimulatedTerminals,
  startReplicaProcess,
  TEST_TOKEN,
  TerminalClient,
  testLog,
} from "@rootstock/testkit";

/** Three replicas are restarted in turn, as a rollout does it, while users of every kind go on through a load balancer. */

const NAMES = ["one", "two", "three"] as const;
/** The load balancer looks four times a second. */
const DRAIN_SECONDS = "1.5";
const base = { clock: systemClock, random: systemRandom, log: testLog() };

let scene: Scene;
let balancer: { readonly url: string };
let upstreams: Upstreams;
const running = new Map<string, ReplicaProcess>();
const ports = new Map<string, number>();

const launch = async (name: string): Promise<void> => {
  const replica = await startReplicaProcess({
    databaseUrl: scene.database.url,
    name,
    env: { PORT: String(ports.get(name)), ROOTSTOCK_DRAIN_SECONDS: DRAIN_SECONDS },
  });
  running.set(name, replica);
  await upstreams.until((states) => states.get(name) === "ready", AbortSignal.timeout(30_000));
};

beforeEach(async () => {
  scene = await Scene.create();
  for (const name of NAMES) ports.set(name, await freePort(systemRandom));
  upstreams = new Upstreams({
    upstreams: NAMES.map((name) => ({ name, host: "127.0.0.1", port: ports.get(name) ?? 0 })),
    base,
  });
  const balancing = new LoadBalancer({ host: "127.0.0.1", port: 0, upstreams, base });
  scene.onEnd(async () => {
    for (const replica of running.values()) {
      replica.signal("SIGKILL");
      await replica.exited;
    }
  });
  scene.onEnd(() => balancing.stop());
  scene.onEnd(() => upstreams.stop());
  await balancing.start();
  await upstreams.start();
  balancer = { url: `http://127.0.0.1:${balancing.address().port}` };
  await launch("one");
  await Promise.all([launch("two"), launch("three")]);
});
afterEach(() => scene.end(), 30_000);

/** What became of every call: a failure is told, not thrown, so that all of them are seen. */
class Ledger {
  readonly failures: string[] = [];
  calls = 0;

  async call(what: string, make: () => Promise<ApiReply>): Promise<ApiReply | undefined> {
    this.calls += 1;
    try {
      const reply = await make();
      if (reply.status >= 300) this.failures.push(`${what}: ${reply.status} ${reply.body}`);
      return reply;
    } catch (err) {
      const cause = err instanceof Error ? err.cause : undefined;
      this.failures.push(`${what}: ${err} ${cause ?? ""}`);
      return undefined;
    }
  }
}

test("no call fails, every message arrives once and in order, events go on without a gap, terminals are told to come back", async () => {
  const ledger = new Ledger();
  const project = await scene.project({ name: "balancer", stop: async () => {}, ...balancer });
  const through = { name: "balancer", stop: async () => {}, ...balancer };
  const runtimeBrokers = [await scene.runtimeBroker(through), await scene.runtimeBroker(through)];
  const [first, second] = runtimeBrokers;
  if (!first || !second) throw new Error("no runtime brokers");
  const terminals = new SimulatedTerminals(second, { credits: true });
  const agents = new Map<string, string>();
  for (const [name, on] of [
    ["a1", first],
    ["a2", first],
    ["b1", second],
    ["b2", second],
    ["lifecycle", first],
    ["terminal", second],
  ] as const)
    agents.set(name, await scene.agent(through, project, name, on.id));
  const idOf = (name: string) => agents.get(name) ?? "";

  const over = new AbortController();
  const heardAll = new AbortController();
  const sent = new Map<string, string[]>();
  const sending = async (name: string): Promise<void> => {
    const texts: string[] = [];
    sent.set(name, texts);
    for (let i = 0; !over.signal.aborted; i += 1) {
      const text = `${name}:${i}`;
      texts.push(text);
      await ledger.call(`message ${text}`, () =>
        api(balancer, "POST", `/api/v1/agents/${idOf(name)}/message`, { structured_message: { msg: text } }),
      );
    }
  };
  const reading = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const listed = await ledger.call("list", () => api(balancer, "GET", `/api/v1/projects/${project}/agents`));
      if (listed) expect(listed.list("agents")).toHaveLength(agents.size);
      await ledger.call("agent", () => api(balancer, "GET", `/api/v1/agents/${idOf("a1")}`));
    }
  };
  const lookingInside = async (): Promise<void> => {
    const path = `/api/v1/agents/${idOf("b1")}`;
    while (!over.signal.aborted) {
      await ledger.call("exec", () => api(balancer, "POST", `${path}/exec`, { command: ["true"] }));
      await ledger.call("logs", () => api(balancer, "GET", `${path}/logs`));
      await ledger.call("preflight", () => api(balancer, "GET", `${path}/pty`));
    }
  };
  const phases: unknown[] = [];
  const cycling = async (): Promise<void> => {
    while (!over.signal.aborted)
      for (const verb of ["stop", "start"]) {
        const reply = await ledger.call(verb, () =>
          api(balancer, "POST", `/api/v1/agents/${idOf("lifecycle")}/${verb}`),
        );
        phases.push(reply?.get("phase"));
      }
  };

  const heard = new Map<string, string[]>();
  let resyncs = 0;
  let reconnects = 0;
  const listening = async (): Promise<void> => {
    const client = new HubClient({ baseUrl: balancer.url, token: TEST_TOKEN });
    const events = client.events({
      subjects: ["agent.*.message"],
      signal: heardAll.signal,
      wait: async (askedMs = 100) => {
        reconnects += 1;
        await systemClock.sleep(Math.min(askedMs, 500), heardAll.signal);
      },
    });
    for await (const event of events) {
      if (event.kind === "resync") resyncs += 1;
      else {
        const text = String(Reflect.get(Object(event.data), "msg"));
        const name = text.split(":", 1)[0] ?? "";
        heard.set(name, [...(heard.get(name) ?? []), text]);
      }
    }
  };

  const closes: { readonly code: number; readonly reason: string }[] = [];
  const viewing = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const seen = terminals.opened.length;
      const client = await TerminalClient.attach(balancer, idOf("terminal"));
      const stop = () => client.cut();
      over.signal.addEventListener("abort", stop);
      const terminal = await Promise.race([terminals.nth(seen), client.closed.then(() => undefined)]);
      terminal?.print(`screen ${seen}`);
      const end = await client.closed;
      over.signal.removeEventListener("abort", stop);
      if (!over.signal.aborted) closes.push(end);
    }
  };

  const load = [...["a1", "a2", "b1", "b2"].map(sending), reading(), lookingInside(), cycling(), viewing()];
  const subscriber = listening();
  await eventually(() => [...sent.values()].every((texts) => texts.length > 5) && heard.size === 4);

  for (const name of NAMES) {
    const replica = running.get(name);
    await replica?.stop();
    expect(await replica?.exited).toBe(0);
    await launch(name);
    const then = ledger.calls;
    await eventually(() => ledger.calls > then + 50);
  }
  over.abort();
  await Promise.all(load);

  expect(ledger.failures).toEqual([]);
  expect([...sent.values()].flat().length).toBeGreaterThan(100);
  await eventually(async () => {
    const open = await scene.database.query("select state, msg from messages where state <> 'delivered'");
    expect(open).toEqual([]);
  });
  const delivered = runtimeBrokers.flatMap((r) => r.delivered);
  for (const [name, texts] of sent) {
    const arrived = delivered
      .filter((d) => d.agent === name)
      .map((d) => Reflect.get(Object(Reflect.get(Object(d.body), "structured_message")), "msg"));
    expect(arrived).toEqual(texts);
    // From the first that it heard on, each once.
    await eventually(() => heard.get(name)?.at(-1) === texts.at(-1));
    const told = heard.get(name) ?? [];
    expect(told).toEqual(texts.slice(texts.indexOf(told[0] ?? "")));
  }
  heardAll.abort();
  await subscriber;
  expect(resyncs).toBe(0);
  expect(reconnects).toBeGreaterThan(0);
  expect(closes.length).toBeGreaterThan(0);
  for (const { code } of closes) expect([4503, 1012]).toContain(code);
  // Each socket was closed to move, never lost.
  for (const r of runtimeBrokers) expect(r.closes.map((c) => c.code)).toEqual(r.closes.map(() => 1012));
  expect(phases.length).toBeGreaterThan(10);
});
