import { createHash, createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { loadStoredSecretsConfig, rewrapStoredSecrets } from "@rootstock/hub";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  type ApiOptions,
  type ApiReply,
  api,
  eventually,
  type InProcessReplica,
  noteSecrets,
  Scene,
  SimulatedRuntimeBroker,
  startReplica,
  TEST_SECRET,
  TEST_TOKEN,
  TestBrowser,
  testLog,
} from "@rootstock/testkit";

/** The secrets that replicas share are replaced while everything goes on (spec/03 10, point 24). */

const FORMER = TEST_SECRET;
const PRESENT = "another shared secret of more than 32 bytes";
/** Fifteen replicas start one after the other, and the machine may have other things to do. */
const LONG_MS = 300_000;
const PATIENCE_MS = 60_000;

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end(), LONG_MS);

/** Replicas that are replaced one after the other, called in turn as by a load balancer. */
class Fleet {
  readonly #replicas: InProcessReplica[] = [];
  #turn = 0;

  async start(secret: string, more: Readonly<Record<string, string>> = {}): Promise<void> {
    for (let i = 0; i < 3; i += 1) this.#replicas.push(await this.#replica(secret, more));
  }

  /** A new replica in the place of each, the new one first. */
  async replace(secret: string, more: Readonly<Record<string, string>> = {}): Promise<void> {
    for (let i = 0; i < 3; i += 1) {
      this.#replicas.push(await this.#replica(secret, more));
      await this.#replicas.shift()?.stop();
    }
  }

  get urls(): readonly string[] {
    return this.#replicas.map((r) => r.url);
  }

  next(): InProcessReplica {
    this.#turn += 1;
    const replica = this.#replicas[this.#turn % this.#replicas.length];
    if (!replica) throw new Error("no replica");
    return replica;
  }

  /** A call that goes on to the next replica when one is on its way out. */
  call(method: string, path: string, body?: unknown, options?: ApiOptions): Promise<ApiReply> {
    return eventually(async () => {
      const reply = await api(this.next(), method, path, body, options);
      return reply.status === 503 ? false : reply;
    }, PATIENCE_MS);
  }

  async stop(): Promise<void> {
    for (const replica of this.#replicas) await replica.stop();
  }

  #replica(secret: string, more: Readonly<Record<string, string>>): Promise<InProcessReplica> {
    return startReplica({
      databaseUrl: scene.database.url,
      name: `replica-${systemRandom.uuid()}`,
      env: { ROOTSTOCK_SECRET: secret, ...more },
    });
  }
}

const startFleet = async (secret: string, more: Readonly<Record<string, string>> = {}): Promise<Fleet> => {
  const fleet = new Fleet();
  scene.onEnd(() => fleet.stop());
  await fleet.start(secret, more);
  return fleet;
};

const rewrap = (secret: string, kms = "secret", check = false) =>
  rewrapStoredSecrets(
    loadStoredSecretsConfig({ DATABASE_URL: scene.database.url, ROOTSTOCK_SECRET: secret, ROOTSTOCK_KMS: kms }),
    { clock: systemClock, random: systemRandom, log: testLog() },
    { check },
  );

const textAt = (value: unknown, ...path: readonly string[]): string => {
  const found = path.reduce<unknown>((v, key) => Reflect.get(Object(v), key), value);
  return typeof found === "string" ? found : "";
};

/** A runtime broker that wants API_KEY of everybody, and dials whichever replica is next. */
const joinMachine = async (fleet: Fleet): Promise<SimulatedRuntimeBroker> => {
  const credentials = await scene.join(fleet.next(), "laptop");
  const machine: SimulatedRuntimeBroker = new SimulatedRuntimeBroker({
    hubUrl: () => fleet.next().url,
    credentials,
    firstRetryMs: 20,
    like: "rootstock",
    handle: (request) =>
      request.path === "/api/v1/agents" && textAt(request.json, "resolvedEnv", "API_KEY") === ""
        ? { status: 202, body: { agentId: "x", required: ["API_KEY"], needs: ["API_KEY"] } }
        : machine.agents.handle(request),
  });
  scene.onEnd(() => machine.stop());
  await machine.connect();
  return machine;
};

const GATHERED = "a value that only its agent may see";
const CONFIG = { env: { TOKEN: "a value of its configuration" } };

/** A running agent with a kept value, the token it was given, and a keyed call with its answer. */
const startAgent = async (fleet: Fleet, machine: SimulatedRuntimeBroker) => {
  const project = (await fleet.call("POST", "/api/v1/projects", { name: "demo" })).text("id");
  const made = await fleet.call("POST", `/api/v1/projects/${project}/agents`, {
    name: "a1",
    task: "wait",
    gatherEnv: true,
    config: CONFIG,
  });
  expect(made.status).toBe(202);
  const agent = made.text("agent.id");
  const keyed = { headers: { "idempotency-key": "env" } };
  const repeat = () =>
    fleet.call("POST", `/api/v1/projects/${project}/agents/a1/env`, { env: { API_KEY: GATHERED } }, keyed);
  const answer = await repeat();
  expect(answer.status).toBe(200);
  const token = machine.received.map((r) => textAt(r.json, "agentToken")).findLast((t) => t !== "") ?? "";
  const running = { phase: "running", activity: "working" };
  expect((await fleet.call("POST", `/api/v1/agents/${agent}/status`, running, { token })).status).toBe(200);
  await scene.ready(fleet.next(), agent);
  return { agent, token, repeat, answer: answer.body };
};

/** What a browser sends in which the development user has signed in. */
const browserSession = async (fleet: Fleet): Promise<ApiOptions> => {
  const { url } = fleet.next();
  const browser = new TestBrowser({ hub: url, replicas: [{ url }] });
  await browser.submit("/auth/login/development", { token: TEST_TOKEN });
  return { headers: { authorization: "", cookie: browser.cookieHeader() } };
};

test(
  "weak point 24: ROOTSTOCK_SECRET is replaced under load, replica by replica; nobody is signed out, and then the former one is worth nothing",
  async () => {
    const fleet = await startFleet(FORMER);
    const machine = await joinMachine(fleet);
    const { agent, token, repeat, answer } = await startAgent(fleet, machine);
    const cookie = await browserSession(fleet);
    const bearer = (t: string): ApiOptions => ({ token: t });
    const report = (t: string) =>
      fleet.call("POST", `/api/v1/agents/${agent}/status`, { phase: "running", activity: "working" }, bearer(t));

    const seen = new Map<string, number>();
    const refused: string[] = [];
    let [running, present] = [true, token];
    const note = (what: string, status: number) => {
      seen.set(what, (seen.get(what) ?? 0) + 1);
      if (status !== 200 && status !== 202) refused.push(`${what}: ${status}`);
    };
    const load = (async () => {
      while (running) {
        for (const t of new Set([token, present])) note("agent", (await report(t)).status);
        note("message", (await fleet.call("POST", `/api/v1/agents/${agent}/message`, { message: "hi" })).status);
        const beat = await eventually(async () => {
          const answered = await machine.heartbeat();
          return answered.status === 503 ? false : answered;
        }, PATIENCE_MS);
        note("runtime broker", beat.status);
        note("repeated call", (await repeat()).status);
        note("browser", (await fleet.call("GET", "/auth/me", undefined, cookie)).status);
      }
    })();

    const turns = [`${FORMER},${PRESENT}`, `${PRESENT},${FORMER}`];
    for (const secrets of turns) {
      await fleet.replace(secrets);
      const refreshed = await fleet.call("POST", `/api/v1/agents/${agent}/token/refresh`, undefined, bearer(present));
      expect(refreshed.status).toBe(200);
      present = refreshed.text("token");
    }
    expect((await rewrap(turns[1] ?? "")).unreadable).toEqual([]);
    running = false;
    await load;
    expect(refused).toEqual([]);
    expect(machine.refusedDials.filter((status) => status === 401 || status === 403)).toEqual([]);
    expect(Math.min(...seen.values())).toBeGreaterThan(1);

    await fleet.replace(PRESENT);
    expect((await report(present)).status).toBe(200);
    expect((await report(token)).status).toBe(401);
    expect((await fleet.call("GET", "/auth/me", undefined, cookie)).status).toBe(401);
    expect((await repeat()).body).toBe(answer);
    await eventually(async () => (await machine.heartbeat()).status === 200);
    expect((await rewrap(PRESENT, "secret", true)).unreadable).toEqual([]);
    await eventually(() => machine.session !== undefined);
    const restarted = await fleet.call("POST", `/api/v1/agents/${agent}/restart`);
    expect(restarted.status).toBe(200);
    const launch = machine.received.findLast((r) => textAt(r.json, "resolvedEnv", "SCION_AUTH_TOKEN") !== "");
    expect(textAt(launch?.json, "resolvedEnv", "API_KEY")).toBe(GATHERED);
    expect(launch?.json).toMatchObject({ inlineConfig: CONFIG });
  },
  LONG_MS,
);

test(
  "what is stored moves from the shared secret to a file of keys and back, and needs only the one that holds it",
  async () => {
    const dir = mkdtempSync(join(tmpdir(), "rootstock-kms-"));
    scene.onEnd(async () => rmSync(dir, { recursive: true }));
    const file = `file:${join(dir, "keys.json")}`;
    const keys = [{ id: "one", key: systemRandom.bytes(32).toString("base64") }];
    noteSecrets(...keys.map(({ key }) => key));
    writeFileSync(join(dir, "keys.json"), JSON.stringify({ keys }));
    const fleet = await startFleet(FORMER);
    const machine = await joinMachine(fleet);
    const { agent, repeat, answer } = await startAgent(fleet, machine);
    const config = async () => (await fleet.call("GET", `/api/v1/agents/${agent}`)).get("appliedConfig.inlineConfig");
    await fleet.replace(FORMER, { ROOTSTOCK_KMS: file });
    await rewrap(FORMER, file);
    expect((await repeat()).body).toBe(answer);
    // Another shared secret, so that nothing but the file can have opened it.
    await fleet.replace(PRESENT, { ROOTSTOCK_KMS: file });
    expect((await repeat()).body).toBe(answer);
    expect(await config()).toEqual(CONFIG);
    expect((await machine.heartbeat()).status).toBe(200);
    await fleet.replace(PRESENT, { ROOTSTOCK_KMS: `secret,${file}` });
    const done = await rewrap(PRESENT, `secret,${file}`);
    expect(Object.values(done.resealed).every((n) => n > 0)).toBe(true);
    await fleet.replace(PRESENT);
    expect((await repeat()).body).toBe(answer);
    expect(await config()).toEqual(CONFIG);
    expect((await machine.heartbeat()).status).toBe(200);
  },
  LONG_MS,
);

test(
  "weak point 24: an agent's token that an original hub with the same session secret issued is good at every replica, as far as its row allows",
  async () => {
    const fleet = await startFleet(`${PRESENT},${FORMER}`);
    const machine = await joinMachine(fleet);
    const { agent } = await startAgent(fleet, machine);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const original = (secret: string): string => {
      const now = Math.floor(systemClock.now() / 1000);
      const key = createHash("sha256").update(`scion-hub-signing-key:agent_signing_key:${secret}`).digest();
      const claims = { iss: "scion-hub", sub: agent, aud: "scion-hub-api", iat: now, nbf: now, exp: now + 36_000 };
      const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ ...claims, scopes: ["agent:status:update"] })}`;
      return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
    };
    const statuses = async (token: string): Promise<number[]> => {
      const found: number[] = [];
      for (const url of fleet.urls)
        found.push((await api({ url }, "GET", "/api/v1/auth/me", undefined, { token })).status);
      return found;
    };
    expect(await statuses(original(FORMER))).toEqual([200, 200, 200]);
    expect(await statuses(original(PRESENT))).toEqual([200, 200, 200]);
    expect(await statuses(original("a secret of nobody of more than 32 bytes"))).toEqual([401, 401, 401]);
    await scene.database.query("update agents set token_version = token_version + 1 where id = $1", [agent]);
    expect(await statuses(original(FORMER))).toEqual([401, 401, 401]);
  },
  LONG_MS,
);

test(
  "the public keys are the same at every replica, those of a secret that does not sign yet among them",
  async () => {
    const fleet = await startFleet(`${FORMER},${PRESENT}`);
    const answers = await Promise.all(
      fleet.urls.map(async (url) => (await fetch(`${url}/.well-known/jwks.json`)).text()),
    );
    expect(new Set(answers).size).toBe(1);
    expect(JSON.parse(answers[0] ?? "").keys).toHaveLength(2);
    expect(answers[0]).not.toContain('"d"');
  },
  LONG_MS,
);
