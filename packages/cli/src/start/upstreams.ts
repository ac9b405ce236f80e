import { get } from "node:http";
import { type Base, Loop, Probe, type Service } from "@rootstock/service";

/** A replica as the load balancer sees it. */
export interface Upstream {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/**
 * `ready`: answers `/readyz` with 200. `refusing`: answers, but is draining or has lost its database; better than nothing,
 * because its answer says what is wrong. `down`: does not answer.
 */
export type UpstreamState = "ready" | "refusing" | "down";

export interface UpstreamsOptions {
  readonly upstreams: readonly Upstream[];
  readonly base: Base;
  /** Milliseconds between two looks at every replica; 250 by default. */
  readonly intervalMs?: number;
  /** How long a replica may take to answer; a paused process accepts connections but answers nothing. */
  readonly timeoutMs?: number;
}

/** What `/readyz` of one replica says. Never throws. */
const look = (upstream: Upstream, timeoutMs: number, signal: AbortSignal): Promise<UpstreamState> =>
  new Promise((resolve) => {
    const { host, port } = upstream;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const request = get({ host, port, path: "/readyz", agent: false, signal: limit }, (response) => {
      response.resume();
      response.once("error", () => resolve("down"));
      resolve(response.statusCode === 200 ? "ready" : "refusing");
    });
    request.once("error", () => resolve("down"));
  });

/** Watches the replicas' readiness and says in which order to try them. */
export class Upstreams implements Service {
  /** Emits after every change of a state. */
  readonly changed = new Probe<ReadonlyMap<string, UpstreamState>>();
  readonly #options: Required<UpstreamsOptions>;
  readonly #states = new Map<string, UpstreamState>();
  readonly #loop: Loop;
  #next = 0;

  constructor(options: UpstreamsOptions) {
    this.#options = { intervalMs: 250, timeoutMs: 2_000, ...options };
    this.#loop = new Loop(options.base.log, "upstreams", (signal) => this.#watch(signal));
  }

  start(): Promise<void> {
    return this.#loop.start();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  state(name: string): UpstreamState {
    return this.#states.get(name) ?? "down";
  }

  /** Resolves once `enough` says so, at once or after a later change; stops waiting when `signal` aborts. */
  until(enough: (states: ReadonlyMap<string, UpstreamState>) => boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || enough(this.#states)) return resolve();
      const done = () => {
        off();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const off = this.changed.on((states) => enough(states) && done());
      signal.addEventListener("abort", done, { once: true });
    });
  }

  /** A connection to it failed: not tried again before it answers. */
  markDown(name: string): void {
    this.#set(name, "down");
  }

  /** Replicas worth a connection, best first; each call begins with the next ready one. */
  candidates(): readonly Upstream[] {
    const { upstreams } = this.#options;
    this.#next = (this.#next + 1) % Math.max(1, upstreams.length);
    const turned = [...upstreams.slice(this.#next), ...upstreams.slice(0, this.#next)];
    const inState = (state: UpstreamState) => turned.filter((u) => this.state(u.name) === state);
    return [...inState("ready"), ...inState("refusing")];
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { base, upstreams, intervalMs, timeoutMs } = this.#options;
    // One watch per replica: a hung one must not delay the news about the others.
    await Promise.all(
      upstreams.map(async (upstream) => {
        while (!signal.aborted) {
          const state = await look(upstream, timeoutMs, signal);
          if (!signal.aborted) this.#set(upstream.name, state);
          await base.clock.sleep(intervalMs, signal);
        }
      }),
    );
  }

  #set(name: string, state: UpstreamState): void {
    if (this.state(name) === state) return;
    this.#states.set(name, state);
    this.changed.emit(this.#states);
  }
}
