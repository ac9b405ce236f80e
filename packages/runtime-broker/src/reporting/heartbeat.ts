import { type Base, Loop, Probe, type Service, SingleFlight } from "@rootstock/service";
import type { Credentials } from "../link/credentials.ts";
import { signedPost } from "../link/signedHttp.ts";

/** One agent in a heartbeat (spec/01 5.1). */
export interface HeartbeatAgent {
  readonly projectId: string;
  readonly slug: string;
  readonly status: string;
  readonly phase: string;
  readonly activity?: string;
  readonly containerStatus?: string;
  readonly harnessAuth?: string;
  readonly profile: string;
}

export interface HeartbeatContent {
  readonly status: "online" | "degraded";
  readonly agents: readonly HeartbeatAgent[];
}

export interface HeartbeatOptions {
  readonly credentials: () => Promise<Credentials>;
  readonly content: () => Promise<HeartbeatContent>;
  readonly intervalMs: number;
}

/** The body of a heartbeat: agents by project, under the new name and the old one. */
export const heartbeatBody = (content: HeartbeatContent): Record<string, unknown> => {
  const byProject = Map.groupBy(content.agents, (agent) => agent.projectId);
  const projects = [...byProject].map(([projectId, agents]) => ({
    projectId,
    groveId: projectId,
    agentCount: agents.length,
    agents: agents.map(({ projectId: _, ...agent }) => agent),
  }));
  return { status: content.status, ...(projects.length > 0 && { projects, groves: projects }) };
};

/**
 * Tells the hub over plain HTTP that this runtime broker is there and what its agents do: at start, every interval, and at
 * once after a change. A heartbeat that fails is only logged: the next one says the same or better.
 */
export class Heartbeat implements Service {
  readonly sent = new Probe<number>();
  readonly #base: Base;
  readonly #options: HeartbeatOptions;
  readonly #loop: Loop;
  readonly #sending: SingleFlight;
  #stopped = new AbortController();

  constructor(base: Base, options: HeartbeatOptions) {
    this.#base = base;
    this.#options = options;
    this.#sending = new SingleFlight(
      () => this.#send(),
      (err) => {
        if (!this.#stopped.signal.aborted) base.log.warn({ err }, "heartbeat failed");
      },
    );
    this.#loop = new Loop(base.log, "heartbeat", async (signal) => {
      while (!signal.aborted) {
        await this.#sending.poke();
        await base.clock.sleep(options.intervalMs, signal);
      }
    });
  }

  start(): Promise<void> {
    this.#stopped = new AbortController();
    return this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#loop.stop();
    await this.#sending.idle();
  }

  /** Something changed. */
  poke(): void {
    if (!this.#stopped.signal.aborted) void this.#sending.poke();
  }

  async #send(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    const credentials = await this.#options.credentials();
    const body = heartbeatBody(await this.#options.content());
    const path = `/api/v1/runtime-brokers/${credentials.brokerId}/heartbeat`;
    const status = await signedPost(this.#base, credentials, path, body, this.#stopped.signal);
    if (status >= 400) this.#base.log.warn({ status }, "the hub refused a heartbeat");
    this.sent.emit(status);
  }
}
