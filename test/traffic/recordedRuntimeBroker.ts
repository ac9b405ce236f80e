import { systemClock } from "@rootstock/service";
import {
  type ReceivedRequest,
  type Replica,
  SimulatedAgents,
  type SimulatedReply,
  type SimulatedRuntimeBroker,
} from "@rootstock/testkit";
import { differences, queryDifferences } from "./compare.ts";
import { type Findings, routeOf } from "./findings.ts";
import type { Ids } from "./ids.ts";
import type { Step, TunnelledReply, TunnelledRequest } from "./steps.ts";

type RequestStep = Step & TunnelledRequest;
type Expected = RequestStep & { readonly position: number };

/** How long a recorded request may keep us waiting, in milliseconds. */
const PATIENCE_MS = 8_000;

/** A promise that is kept from outside. */
class Gate<T> {
  readonly passed: Promise<T>;
  open: (value: T) => void = () => {};
  constructor() {
    this.passed = new Promise((resolve) => {
      this.open = resolve;
    });
  }
}

/**
 * The runtime broker's end of a recording: what the hub asks through the tunnel must be what was recorded, and gets the
 * recorded answer, but not before the replay has come to it. It executes one request at a time, as the unmodified one.
 */
export class RecordedRuntimeBroker {
  /** The last token that the hub made for an agent, by our id. */
  readonly tokens = new Map<string, string>();
  #socket: SimulatedRuntimeBroker | undefined;
  readonly #ids: Ids;
  readonly #findings: Findings;
  readonly #agents = new SimulatedAgents();
  readonly #horizon: () => number;
  readonly #expected: Expected[] = [];
  readonly #arrived = new Map<string, Gate<void>>();
  readonly #replies = new Map<string, Gate<TunnelledReply>>();
  #improvising = false;

  constructor(options: {
    readonly ids: Ids;
    readonly findings: Findings;
    readonly steps: readonly Step[];
    /** The step before which a request must be recorded to be expected now. */
    readonly horizon: () => number;
  }) {
    this.#ids = options.ids;
    this.#findings = options.findings;
    this.#horizon = options.horizon;
    for (const [at, step] of options.steps.entries()) {
      if (step.kind !== "request") continue;
      this.#expected.push({ ...step, position: at });
      this.#arrived.set(step.id, new Gate());
      this.#replies.set(step.id, new Gate());
    }
  }

  /** The connection, once there is one. */
  get socket(): SimulatedRuntimeBroker {
    if (!this.#socket) throw new Error("the runtime broker has not joined");
    return this.#socket;
  }

  set socket(socket: SimulatedRuntimeBroker) {
    this.#socket = socket;
  }

  /** Runs `work` with answers of its own instead of recorded ones: for what happened before the recording. */
  async improvise<T>(work: () => Promise<T>): Promise<T> {
    this.#improvising = true;
    try {
      return await work();
    } finally {
      this.#improvising = false;
    }
  }

  /** Answers a tunnelled request. */
  readonly handle = async (request: ReceivedRequest): Promise<SimulatedReply> => {
    this.#keepToken(request);
    if (this.#improvising) return launched(request) ?? this.#agents.handle(request);
    const horizon = this.#horizon();
    const at = this.#expected.findIndex((e) => e.position <= horizon && this.#isSame(e, request));
    const [step] = at < 0 ? [] : this.#expected.splice(at, 1);
    if (!step) {
      this.#findings.add([], `hub: ${routeOf(request.method, request.path)}`, ["is asked beyond the recording"]);
      return this.#agents.handle(request);
    }
    this.#findings.add(step.flows, `hub: ${routeOf(step.method, step.path)}`, [
      ...queryDifferences(step.query ?? "", request.query, this.#ids),
      ...(step.body === undefined ? [] : differences(step.body, request.json, this.#ids, "body")),
    ]);
    this.#arrived.get(step.id)?.open();
    const reply = await this.#replies.get(step.id)?.passed;
    if (!reply) throw new Error("a request without a recorded reply");
    return {
      status: reply.status,
      ...(reply.body !== undefined && { body: this.#ids.translate(reply.body) as object }),
      ...(reply.contentType && { headers: { "Content-Type": reply.contentType } }),
    };
  };

  /** Waits for a recorded request, then answers it and everything asked before it. */
  async reply(step: Step & TunnelledReply, earlier: readonly (Step & TunnelledReply)[]): Promise<void> {
    // One at a time: those before it may be on the wire only when this one's turn has come.
    for (const reply of [...earlier, step]) this.#replies.get(reply.id)?.open(reply);
    const arrived = this.#arrived.get(step.id)?.passed ?? Promise.resolve();
    if (await within(arrived)) return;
    const missed = this.#expected.findIndex((e) => e.id === step.id);
    const [request] = missed < 0 ? [] : this.#expected.splice(missed, 1);
    if (request) this.#findings.add(step.flows, `hub: ${routeOf(request.method, request.path)}`, ["is never asked"]);
  }

  /** Waits until a recorded request has come, or another one occupies the runtime broker. */
  async asked(step: RequestStep): Promise<void> {
    const gates = this.#expected.map((e) => this.#arrived.get(e.id)?.passed);
    await within(Promise.race([this.#arrived.get(step.id)?.passed, ...gates]));
  }

  #isSame(expected: RequestStep, request: ReceivedRequest): boolean {
    return expected.method === request.method && this.#ids.translate(expected.path) === request.path;
  }

  #keepToken(request: ReceivedRequest): void {
    const body = request.json as
      | { agentToken?: unknown; token?: unknown; resolvedEnv?: { SCION_AUTH_TOKEN?: unknown } }
      | undefined;
    const token = body?.agentToken ?? body?.resolvedEnv?.SCION_AUTH_TOKEN ?? body?.token;
    if (typeof token !== "string") return;
    const claims: { sub: string } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
    this.tokens.set(claims.sub, token);
  }
}

const within = async (fact: Promise<unknown>): Promise<boolean> => {
  const over = new AbortController();
  const given = await Promise.race([
    fact.then(() => true),
    systemClock.sleep(PATIENCE_MS, over.signal).then(() => false),
  ]);
  over.abort();
  return given;
};

/** What the unmodified runtime broker says of a container that it has launched (spec/01 4.1). */
const launched = (request: ReceivedRequest): SimulatedReply | undefined => {
  const { name } = (request.json ?? {}) as { name?: string };
  if (request.method !== "POST" || request.path !== "/api/v1/agents") return undefined;
  const agent = {
    slug: "",
    containerId: "c0ffee",
    name,
    template: "default",
    harnessConfig: "gemini",
    harnessAuth: "api-key",
    image: "registry.example.org/x/scion-gemini:latest",
    runtime: "podman",
    profile: "local",
    status: "running",
    phase: "running",
    containerStatus: "Up Less than a second ago",
  };
  return { status: 201, body: { agent, created: true } };
};

/** Where the runtime broker dials: the first replica that serves. */
export const dialled = (replicas: readonly Replica[]): string => replicas[0]?.url ?? "http://127.0.0.1:1";
