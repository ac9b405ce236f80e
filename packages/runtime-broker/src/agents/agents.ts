import { type Base, Probe, type Service } from "@rootstock/service";
import type { RuntimeBrokerConfig } from "../config.ts";
import { readTokenFile, writeTokenFile } from "../files.ts";
import type { Harness } from "../harness/harness.ts";
import type { Credentials } from "../link/credentials.ts";
import type { HeartbeatAgent } from "../reporting/heartbeat.ts";
import type { AgentReporters } from "../reporting/reporters.ts";
import { type AgentPlace, type Runtime, RuntimeFailure, type SessionState } from "../runtimes/runtime.ts";
import { BrokerApiError } from "../tunnel/errors.ts";
import { Turns } from "../tunnel/turns.ts";
import { type AgentRecord, placeOf, type RecordPhase } from "./agentRecord.ts";
import type { AgentStore } from "./agentStore.ts";
import { agentView, phaseOf } from "./agentView.ts";
import { launchSpec } from "./launchSpec.ts";
import { cloneInto, prepareDirectories } from "./workspace.ts";

export interface AgentsOptions {
  readonly config: RuntimeBrokerConfig;
  readonly store: AgentStore;
  readonly runtime: Runtime;
  readonly reporters: AgentReporters;
  readonly credentials: () => Promise<Credentials>;
}

export interface Launch {
  /** Typed or passed to the harness when it starts; empty for none. */
  readonly task: string;
  /** Whether the harness should take up its former conversation. */
  readonly resume: boolean;
  /** A token that came with this start; otherwise the stored one stays. */
  readonly token: string | undefined;
}

/** How long a stop waits for the hub to have heard of it; afterwards that goes on by itself. */
const LAST_WORDS_MS = 2_000;

/**
 * The agents of this runtime broker and what happens to them. The record says what was asked for, the runtime says what
 * is; where they differ the runtime is right. Whoever changes an agent holds its turn.
 */
export class Agents implements Service {
  /** Something about an agent has changed that the hub should hear of. */
  readonly changed = new Probe<string>();
  /** One change of an agent at a time, in the order in which they came. */
  readonly turns = new Turns();
  readonly store: AgentStore;
  readonly runtime: Runtime;
  readonly #base: Base;
  readonly #options: AgentsOptions;
  #offExit: (() => void) | undefined;

  constructor(base: Base, options: AgentsOptions) {
    this.#base = base;
    this.#options = options;
    this.store = options.store;
    this.runtime = options.runtime;
  }

  /** Finds the sessions that ran on while this runtime broker was away. */
  async start(): Promise<void> {
    this.#offExit ??= this.runtime.exited.on(({ key }) => void this.turns.run(key, () => this.#noteEnd(key)));
    const sessions = await this.sessions();
    for (const record of this.store.all()) {
      const session = sessions.get(record.key);
      if (session?.status === "running") {
        this.#base.log.info({ agent: record.slug, projectId: record.projectId }, "agent adopted");
        await this.#update(record, "running");
        this.#options.reporters.begin(record, this.place(record), session.since ?? this.#base.clock.now());
      } else if (record.phase === "running" || record.phase === "stopping" || record.phase === "starting") {
        await this.#noteEnd(record.key);
      }
    }
  }

  /** Lets go of the agents; their sessions run on. */
  async stop(): Promise<void> {
    this.#offExit?.();
    this.#offExit = undefined;
  }

  place(record: AgentRecord): AgentPlace {
    return placeOf(this.#options.config.stateDirectory, record);
  }

  sessions(records: readonly AgentRecord[] = this.store.all()): Promise<ReadonlyMap<string, SessionState>> {
    return this.runtime.sessions(records.map((record) => this.place(record)));
  }

  async session(record: AgentRecord): Promise<SessionState | undefined> {
    return (await this.sessions([record])).get(record.key);
  }

  /** The Agent object for an answer. */
  view(record: AgentRecord, session: SessionState | undefined, launched = false): Record<string, unknown> {
    return agentView(record, session, this.runtime.name, { launched });
  }

  /** @throws BrokerApiError 400 when no such harness is configured here */
  harness(name: string): Harness {
    const harness = Object.hasOwn(this.#options.config.harnesses, name)
      ? this.#options.config.harnesses[name]
      : undefined;
    if (harness) return harness;
    throw new BrokerApiError("validation_error", `no harness named "${name}" is configured on this runtime broker`, {
      details: { field: "harnessConfig", available: Object.keys(this.#options.config.harnesses) },
    });
  }

  /**
   * Starts a session for `record`, whose environment is stored. Returns the record and its session.
   * @throws BrokerApiError 500 `runtime_error` with the runtime's reason; the agent is then in `error`
   */
  async launch(record: AgentRecord, launch: Launch): Promise<{ record: AgentRecord; session: SessionState }> {
    const { config } = this.#options;
    const place = this.place(record);
    const credentials = await this.#options.credentials();
    await prepareDirectories(config.stateDirectory, record);
    if (launch.token !== undefined) await writeTokenFile(place.home, launch.token);
    const starting = await this.#update(record, "starting");
    try {
      const spec = await launchSpec({
        config,
        record: starting,
        place,
        harness: this.harness(record.harness),
        environment: await this.store.environment(record.key),
        runtime: this.runtime,
        runtimeBrokerId: credentials.brokerId,
        hasToken: (await readTokenFile(place.home)) !== undefined,
        ...launch,
      });
      if (!this.runtime.reportsItself) await cloneInto(this.#base.clock, starting, spec.env);
      await this.runtime.removeSession(place);
      const session = await this.runtime.launch(spec);
      const running = await this.#update({ ...starting, started: true }, "running");
      this.#options.reporters.begin(running, place, session.since ?? this.#base.clock.now());
      this.#base.log.info(
        { agent: record.slug, projectId: record.projectId, harness: record.harness },
        "agent started",
      );
      return { record: running, session };
    } catch (err) {
      await this.#update(starting, "error");
      this.#base.log.warn({ err, agent: record.slug, projectId: record.projectId }, "agent did not start");
      if (!(err instanceof RuntimeFailure)) throw err;
      throw new BrokerApiError("runtime_error", `Failed to start agent: ${err.message}`, { cause: err });
    } finally {
      this.changed.emit(record.key);
    }
  }

  /** Ends the agent's session. One that has none is left as it is, but for a stopped one that is to be `suspended`. */
  async end(record: AgentRecord, phase: "stopped" | "suspended"): Promise<AgentRecord> {
    const session = await this.session(record);
    const place = this.place(record);
    if (session?.status === "running") {
      const stopping = await this.#update(record, "stopping");
      this.#options.reporters.stopping(record.key);
      try {
        await this.runtime.endSession(place);
      } catch (err) {
        await this.#update(stopping, "running");
        throw err instanceof RuntimeFailure ? new BrokerApiError("runtime_error", err.message, { cause: err }) : err;
      }
      await this.#lastWords(this.#options.reporters.end(record.key, 0));
      this.#base.log.info({ agent: record.slug, projectId: record.projectId }, "agent stopped");
    }
    const current = this.store.get(record.key);
    const ended = current && (await this.#update({ ...current, exitCode: 0 }, phase));
    this.changed.emit(record.key);
    return ended ?? record;
  }

  /** Ends the agent and forgets it, and its files; its workspace may stay. */
  async delete(record: AgentRecord, options: { readonly keepWorkspace: boolean }): Promise<void> {
    const place = this.place(record);
    this.#options.reporters.stopping(record.key);
    await this.#update(record, "stopping");
    await this.runtime.removeSession(place).catch((err: unknown) => {
      throw err instanceof RuntimeFailure ? new BrokerApiError("runtime_error", err.message, { cause: err }) : err;
    });
    await this.#lastWords(this.#options.reporters.end(record.key, 0));
    await this.store.remove(record.key, options);
    this.#base.log.info({ agent: record.slug, projectId: record.projectId }, "agent deleted");
    this.changed.emit(record.key);
  }

  /** Brings a new token for an agent: the file, and whoever reads it. Returns whether that one knows already. */
  async replaceToken(record: AgentRecord, token: string): Promise<boolean> {
    const announced = await this.runtime.replaceToken(this.place(record), token);
    this.#options.reporters.tokenChanged(record.key);
    this.changed.emit(record.key);
    return announced;
  }

  /** What a heartbeat says of the agents. */
  async heartbeatAgents(): Promise<HeartbeatAgent[]> {
    const sessions = await this.sessions();
    return this.store.all().map((record) => {
      const session = sessions.get(record.key);
      const phase = phaseOf(record, session);
      return {
        projectId: record.projectId,
        slug: record.slug,
        status: phase,
        phase,
        ...(session && { containerStatus: this.#statusText(record, session) }),
        ...(record.harnessAuth && { harnessAuth: record.harnessAuth }),
        profile: record.profile,
      };
    });
  }

  /** The hub takes an exit code above 0 for a crash, and a container that was stopped on request often has one. */
  #statusText(record: AgentRecord, session: SessionState): string {
    const stopped = record.phase === "stopped" || record.phase === "suspended" || record.phase === "stopping";
    return session.status === "exited" && stopped ? session.statusText.replace(/\(\d+\)/, "(0)") : session.statusText;
  }

  /** Writes down that an agent's session has ended, unless that was asked for or another session runs by now. */
  async #noteEnd(key: string): Promise<void> {
    try {
      const record = this.store.get(key);
      if (!record || !["starting", "running", "stopping"].includes(record.phase)) return;
      const session = await this.session(record);
      if (session?.status === "running") return;
      const exitCode = record.phase === "stopping" ? 0 : session?.exitCode;
      const ended = await this.#update(
        { ...record, ...(exitCode !== undefined && { exitCode }) },
        exitCode === 0 ? "stopped" : "error",
      );
      this.#base.log.info({ agent: record.slug, projectId: record.projectId, exitCode }, "agent ended");
      this.changed.emit(key);
      await this.#lastWords(this.#options.reporters.endOf(ended, this.place(ended), exitCode));
    } catch (err) {
      this.#base.log.error({ err }, "noting an agent's end failed");
    }
  }

  async #lastWords(said: Promise<void>): Promise<void> {
    const waited = new AbortController();
    await Promise.race([said, this.#base.clock.sleep(LAST_WORDS_MS, waited.signal)]);
    waited.abort();
  }

  #update(record: AgentRecord, phase: RecordPhase): Promise<AgentRecord> {
    return this.store.put({ ...record, phase });
  }
}
