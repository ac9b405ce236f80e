import type { Base, Service } from "@rootstock/service";
import type { Collector } from "./collector.ts";
import { passedOn, type Span, type SpanAttributes, type SpanRole, type Tracing } from "./tracing.ts";

export interface OtlpTracingOptions {
  /** Where spans are sent, path and all: OTLP over HTTP with JSON. */
  readonly url: string;
  /** Sent with every export; may hold a secret. */
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
  readonly serviceVersion: string;
  /** This replica, as other places know it. */
  readonly instanceId: string;
  readonly name: string;
  /** The share of traces begun here that is recorded, 0 to 1. One that a client began is recorded if the client does. */
  readonly ratio: number;
}

/** How long a stopping replica waits for its last spans to be taken, in milliseconds. */
const LAST_EXPORT_MS = 2_000;

/** Sends spans to a collector. The libraries for it are loaded when it starts: a replica without one never sees them. */
export class OtlpTracing implements Tracing, Service {
  readonly #base: Base;
  readonly #options: OtlpTracingOptions;
  #collector: Collector | undefined;

  constructor(base: Base, options: OtlpTracingOptions) {
    this.#base = base;
    this.#options = options;
  }

  get on(): boolean {
    return this.#collector !== undefined;
  }

  begin(name: string, role: SpanRole, parent: string | null | undefined, attributes: SpanAttributes = {}): Span {
    return this.#collector?.begin(name, role, parent, attributes) ?? passedOn(parent);
  }

  async start(): Promise<void> {
    if (this.#collector) return;
    const { Collector } = await import("./collector.ts");
    this.#collector = new Collector(this.#base.log, this.#options);
  }

  /** Sends what is left, if the collector takes it soon: a replica's end never hangs on it. */
  async stop(): Promise<void> {
    const collector = this.#collector;
    this.#collector = undefined;
    if (!collector) return;
    const over = new AbortController();
    await Promise.race([collector.stop(), this.#base.clock.sleep(LAST_EXPORT_MS, over.signal)]);
    over.abort();
  }
}
