import {
  eventually,
  type InProcessReplica,
  type Scene,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  TEST_TOKEN,
} from "@rootstock/testkit";
import { differences } from "./compare.ts";
import { announcesProject, compareEvents } from "./events.ts";
import { Findings, routeOf } from "./findings.ts";
import { Ids } from "./ids.ts";
import { dialled, RecordedRuntimeBroker } from "./recordedRuntimeBroker.ts";
import type { Answer, Call, Step, TunnelledReply } from "./steps.ts";
import { EventStream } from "./streams.ts";

const REFUSED = "connection refused";

/** An answer of ours. */
interface Ours {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

interface Asked {
  readonly step: Step & Call;
  readonly answer: Promise<Ours | typeof REFUSED>;
}

/** Where the hub of the recordings was. */
const RECORDED_AT = "http://127.0.0.1:8080";

/**
 * Plays a recording against replicas on one database: sends what clients, tool and runtime broker sent, in the recorded
 * interleaving, each call to the next replica in turn, and compares what our hub does with what was recorded.
 */
export class Replay {
  readonly ids = new Ids();
  readonly findings = new Findings();
  readonly runtimeBroker: RecordedRuntimeBroker;
  readonly #scene: Scene;
  readonly #steps: readonly Step[];
  readonly #asked = new Map<string, Asked>();
  readonly #streams = new Map<string, EventStream>();
  readonly #end = new AbortController();
  /** Which step is being played. */
  #at = 0;
  /** The calls of people that wait for their answers. */
  readonly #waiting = new Set<string>();
  #replicas: InProcessReplica[] = [];
  #turn: number;
  #sessions = 0;
  #closes = 0;
  #injected = false;
  /** A call whose retry under the old spelling a client would not make here. */
  #noRetryOf: string | undefined;

  /** `first`: which replica gets the first call; the runtime broker dials the first one. */
  constructor(scene: Scene, steps: readonly Step[], first: 0 | 1) {
    this.#turn = first;
    this.#scene = scene;
    this.#steps = steps;
    this.runtimeBroker = new RecordedRuntimeBroker({
      ids: this.ids,
      findings: this.findings,
      steps,
      horizon: () => this.#horizon(),
    });
  }

  /** Starts the replicas. */
  async open(): Promise<void> {
    // The original knows its address by configuration alone, as replicas do.
    const env = { ROOTSTOCK_PUBLIC_URL: RECORDED_AT };
    this.#replicas = [await this.#scene.replica(env), await this.#scene.replica(env)];
  }

  /** Connects the runtime broker with what its join gave. */
  async dial(credentials: SimulatedCredentials): Promise<void> {
    const socket = new SimulatedRuntimeBroker({
      hubUrl: () => dialled(this.#replicas),
      credentials,
      like: "unmodified",
      firstRetryMs: 20,
      handle: this.runtimeBroker.handle,
    });
    this.#scene.onEnd(() => socket.stop());
    this.runtimeBroker.socket = socket;
    await socket.connect();
  }

  /** The replica whose turn it is. */
  get replica(): InProcessReplica {
    const replica = this.#replicas[this.#turn++ % this.#replicas.length];
    if (!replica) throw new Error("no replica runs");
    return replica;
  }

  /** Plays every step, then waits for the events. */
  async run(): Promise<void> {
    this.#sessions = this.#hasJoined() ? this.runtimeBroker.socket.sessions.length : 0;
    for (const [at, step] of this.#steps.entries()) {
      this.#at = at;
      await this.#play(step, at);
    }
    await this.#compareEvents();
    this.#end.abort();
    for (const stream of this.#streams.values()) await stream.ended();
  }

  /** Sends a call with the credentials of whoever made it. */
  async send(call: Call, url = this.replica.url): Promise<Response> {
    const path = this.ids.translate(call.path);
    const body = call.body === undefined ? "" : JSON.stringify(this.ids.translate(call.body));
    return fetch(`${url}${path}`, {
      method: call.method,
      headers: {
        ...(body && { "content-type": "application/json" }),
        ...(await this.#credentials(call, path, body)),
      },
      ...(body && { body }),
      signal: this.#end.signal,
    });
  }

  async #play(step: Step, at: number): Promise<void> {
    switch (step.kind) {
      case "call":
        return this.#call(step, at);
      case "answer":
        return this.#answer(step);
      case "refused":
        return this.#refused(step);
      case "request":
        return this.#request(step, at);
      case "reply":
        return this.runtimeBroker.reply(step, this.#repliesBefore(step, at));
      case "inject":
        return this.#inject(step.code);
      case "close":
        return this.#close(step);
      case "connected":
        return this.#connected(step);
    }
  }

  async #call(step: Step & Call, at: number): Promise<void> {
    if (step.path.startsWith("/api/v1/groves/") && this.#noRetryOf === routeOf(step.method, step.path)) return;
    if (this.#replicas.length === 0 && !this.#isRefused(step, at)) await this.open();
    if (step.as === "agent") await eventually(() => this.runtimeBroker.tokens.has(this.ids.of(step.agent ?? "")));
    const answer = this.#replicas.length === 0 ? this.#sendNowhere(step) : this.#read(step);
    answer.catch(() => {});
    this.#asked.set(step.conn, { step, answer });
    if (step.as === "user") this.#waiting.add(step.conn);
  }

  /** How far the hub may be ahead of the replay: what it asks for a call is asked before that call's answer. */
  #horizon(): number {
    const answered = this.#steps.findIndex((s, i) => i >= this.#at && s.kind === "answer" && this.#waiting.has(s.conn));
    return answered < 0 ? this.#at + 1 : answered;
  }

  /** Whether the recording says that nobody listened. */
  #isRefused(step: Call, at: number): boolean {
    return this.#steps.slice(at).some((s) => s.kind === "refused" && s.conn === step.conn);
  }

  async #read(step: Call): Promise<Ours> {
    const response = await this.send(step);
    const { status, headers } = response;
    if (headers.get("content-type")?.startsWith("text/event-stream") && response.body) {
      this.#streams.set(step.conn, new EventStream(step.conn, response.body));
      return { status, headers, body: undefined };
    }
    return { status, headers, body: parsed(await response.text()) };
  }

  async #sendNowhere(step: Call): Promise<typeof REFUSED> {
    return this.send(step, dialled([])).then(
      () => Promise.reject(new Error("somebody listens where nobody should")),
      () => REFUSED,
    );
  }

  async #refused(step: Step & { readonly conn: string }): Promise<void> {
    const answer = await this.#asked.get(step.conn)?.answer;
    if (answer !== REFUSED) throw new Error(`${step.conn} was not refused`);
  }

  async #answer(step: Step & Answer): Promise<void> {
    const asked = this.#asked.get(step.conn);
    if (!asked) return;
    const { method, path } = asked.step;
    const answer = await asked.answer;
    this.#waiting.delete(step.conn);
    if (answer === REFUSED) throw new Error(`${step.conn} was refused`);
    this.#noRetryOf = step.status === 404 && answer.status !== 404 ? routeOf(method, path) : undefined;
    this.findings.add(step.flows, routeOf(method, path), answerDifferences(step, answer, this.ids));
  }

  /** A request is on its way before what happens next, unless an earlier one still occupies the runtime broker. */
  async #request(step: Step & { readonly kind: "request" }, at: number): Promise<void> {
    const replied = new Set(this.#steps.slice(0, at).flatMap((s) => (s.kind === "reply" ? [s.id] : [])));
    const waits = this.#steps.slice(0, at).some((s) => s.kind === "request" && !replied.has(s.id));
    if (!waits) await this.runtimeBroker.asked(step);
  }

  #repliesBefore(step: TunnelledReply, at: number): (Step & TunnelledReply)[] {
    const asked = new Set(this.#steps.slice(0, at).flatMap((s) => (s.kind === "request" ? [s.id] : [])));
    return this.#steps.filter((s) => s.kind === "reply" && s.id !== step.id && asked.has(s.id)) as (Step &
      TunnelledReply)[];
  }

  async #inject(code: number | undefined): Promise<void> {
    this.#injected = true;
    const { socket } = this.runtimeBroker;
    const closed = socket.onClose.next();
    if (code === undefined) socket.cut();
    else socket.close(code);
    await closed;
  }

  /** Nobody else closed: then it was the hub that went down. */
  async #close(step: Step & { readonly kind: "close" }): Promise<void> {
    if (step.from !== "hub" || step.code === null) return;
    const { socket } = this.runtimeBroker;
    if (!this.#injected && this.#replicas.length > 0) {
      const stopping = this.#replicas;
      this.#replicas = [];
      await Promise.all(stopping.map((replica) => replica.stop()));
    }
    this.#injected = false;
    await eventually(() => socket.closes.length > this.#closes);
    const ours = socket.closes[this.#closes++];
    if (!ours) throw new Error("a close that was there is gone");
    if (ours.code !== step.code) this.findings.add(step.flows, "hub: close", [`code is ${ours.code} for ${step.code}`]);
  }

  async #connected(step: Step & { readonly kind: "connected" }): Promise<void> {
    if (this.#sessions === 0 && !this.#hasJoined()) await this.dial(await this.#credentialsOfJoin());
    const { sessions } = this.runtimeBroker.socket;
    await eventually(() => sessions.length > this.#sessions);
    const frame = sessions[this.#sessions++]?.connected;
    this.findings.add(step.flows, "hub: connected", differences(step.frame, frame, this.ids, "frame"));
  }

  #hasJoined(): boolean {
    try {
      return this.runtimeBroker.socket !== undefined;
    } catch {
      return false;
    }
  }

  /** What the recorded join got from our hub. */
  async #credentialsOfJoin(): Promise<SimulatedCredentials> {
    for (const { step, answer } of this.#asked.values()) {
      if (step.path !== "/api/v1/brokers/join") continue;
      const ours = await answer;
      if (ours !== REFUSED) return ours.body as SimulatedCredentials;
    }
    throw new Error("nobody joined");
  }

  async #credentials(call: Call, path: string, body: string): Promise<Record<string, string>> {
    switch (call.as) {
      case "user":
        return { authorization: `Bearer ${TEST_TOKEN}` };
      case "agent":
        return { "x-scion-agent-token": this.runtimeBroker.tokens.get(this.ids.of(call.agent ?? "")) ?? "" };
      case "runtimeBroker": {
        const [bare = path, query = ""] = path.split("?");
        return this.runtimeBroker.socket.sign(call.method, bare, query, Buffer.from(body));
      }
      case "nobody":
        return {};
    }
  }

  async #compareEvents(): Promise<void> {
    if (this.#streams.size === 0) return;
    await this.#everythingToldSoFar();
    const told = new Map([...this.#streams].map(([conn, stream]) => [conn, stream.events]));
    compareEvents(this.#steps, told, this.ids, this.findings);
  }

  /** A last event of our own: streams are in order, so what came before it has come. */
  async #everythingToldSoFar(): Promise<void> {
    const last = await this.#read({
      kind: "call",
      conn: "last",
      as: "user",
      method: "POST",
      path: "/api/v1/projects",
      body: { name: "last" },
    });
    const { id } = last.body as { id: string };
    await eventually(() =>
      [...this.#streams.values()].some((stream) => stream.events.some((e) => announcesProject(e, id))),
    );
  }
}

const parsed = (text: string): unknown => {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

const answerDifferences = (recorded: Answer, ours: Ours, ids: Ids): string[] => {
  if (recorded.status !== ours.status) return [`status is ${ours.status} for ${recorded.status}`];
  const headers = Object.entries(recorded.headers ?? {}).flatMap(([name, value]) => {
    const own = ours.headers.get(name);
    return own?.split(";")[0] === value.split(";")[0] ? [] : [`header ${name} is ${own} for ${value}`];
  });
  if (recorded.body !== undefined) return [...headers, ...differences(recorded.body, ours.body, ids, "body")];
  return ours.body === undefined ? headers : [...headers, "body is not empty"];
};
