import type { Base, Service } from "@rootstock/service";
import type { AgentRecord } from "../agents/agentRecord.ts";
import type { AgentPlace } from "../runtimes/runtime.ts";
import { AgentReporter } from "./agentReporter.ts";

export interface ReportersOptions {
  readonly hubUrl: () => Promise<string>;
  readonly heartbeatMs: number;
  /** False where a tool inside the agent does it: then nothing is said here. */
  readonly enabled: boolean;
}

/** One reporter per running agent. */
export class AgentReporters implements Service {
  readonly #base: Base;
  readonly #options: ReportersOptions;
  readonly #reporters = new Map<string, AgentReporter>();
  /** Those whose last words have not reached the hub yet. */
  readonly #ending = new Set<AgentReporter>();

  constructor(base: Base, options: ReportersOptions) {
    this.#base = base;
    this.#options = options;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    const reporters = [...this.#reporters.values(), ...this.#ending];
    this.#reporters.clear();
    await Promise.all(reporters.map((reporter) => reporter.stop()));
  }

  /** The agent's session takes input since `startedAt` (milliseconds since the epoch). */
  begin(record: AgentRecord, place: AgentPlace, startedAt: number): void {
    void this.#reporters.get(record.key)?.stop();
    const reporter = this.#make(record, place);
    if (!reporter) return;
    this.#reporters.set(record.key, reporter);
    void reporter.start();
    reporter.running(startedAt);
  }

  stopping(key: string): void {
    this.#reporters.get(key)?.stopping();
  }

  tokenChanged(key: string): void {
    this.#reporters.get(key)?.tokenChanged();
  }

  /** The last words for an agent that this process has followed. */
  async end(key: string, exitCode: number | undefined): Promise<void> {
    const reporter = this.#reporters.get(key);
    this.#reporters.delete(key);
    if (reporter) await this.#end(reporter, exitCode);
  }

  /** The last words for an agent that may have ended while nobody followed it. */
  async endOf(record: AgentRecord, place: AgentPlace, exitCode: number | undefined): Promise<void> {
    const reporter = this.#reporters.get(record.key) ?? this.#make(record, place);
    this.#reporters.delete(record.key);
    if (reporter) await this.#end(reporter, exitCode);
  }

  async #end(reporter: AgentReporter, exitCode: number | undefined): Promise<void> {
    this.#ending.add(reporter);
    try {
      await reporter.ended(exitCode);
      await reporter.stop();
    } finally {
      this.#ending.delete(reporter);
    }
  }

  #make(record: AgentRecord, place: AgentPlace): AgentReporter | undefined {
    if (!this.#options.enabled || record.id === undefined) return undefined;
    return new AgentReporter(this.#base, {
      agentId: record.id,
      home: place.home,
      hubUrl: this.#options.hubUrl,
      heartbeatMs: this.#options.heartbeatMs,
    });
  }
}
