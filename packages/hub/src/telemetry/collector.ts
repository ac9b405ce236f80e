import {
  type Context,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { formatTraceparent, parseTraceparent } from "@rootstock/protocol";
import type { Log } from "@rootstock/service";
import type { OtlpTracingOptions } from "./otlpTracing.ts";
import type { Span, SpanAttributes, SpanRole } from "./tracing.ts";

/** A batch is sent when it is full or this old, in milliseconds. */
const EXPORT_EVERY_MS = 1_000;
/** How long the collector may take for one batch, in milliseconds. */
const EXPORT_WITHIN_MS = 5_000;
/** Spans kept while the collector is slow; what comes on top of them is dropped. About 8 MB. */
const MOST_WAITING = 8_192;

const KINDS: Readonly<Record<SpanRole, SpanKind>> = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
};

/** The OpenTelemetry side of {@link OtlpTracing}, the one file that knows those libraries. */
export class Collector {
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;

  constructor(log: Log, options: OtlpTracingOptions) {
    const exporter = new OTLPTraceExporter({
      url: options.url,
      headers: { ...options.headers },
      timeoutMillis: EXPORT_WITHIN_MS,
    });
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        "service.name": options.serviceName,
        "service.version": options.serviceVersion,
        "service.instance.id": options.instanceId,
        "rootstock.replica": options.name,
      }),
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.ratio) }),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: toldOf(exporter, log),
          scheduledDelayMillis: EXPORT_EVERY_MS,
          exportTimeoutMillis: EXPORT_WITHIN_MS,
          maxQueueSize: MOST_WAITING,
        }),
      ],
    });
    this.#tracer = this.#provider.getTracer("rootstock", options.serviceVersion);
  }

  begin(name: string, role: SpanRole, parent: string | null | undefined, attributes: SpanAttributes): Span {
    return new RecordedSpan(
      this.#tracer.startSpan(name, { kind: KINDS[role], attributes: { ...attributes } }, contextOf(parent)),
    );
  }

  /** Sends what is left. */
  async stop(): Promise<void> {
    // What cannot be sent was told of when it was tried.
    await this.#provider.shutdown().catch(() => {});
  }
}

const contextOf = (parent: string | null | undefined): Context => {
  const given = parseTraceparent(parent);
  if (!given) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: given.traceId,
    spanId: given.spanId,
    traceFlags: given.sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    isRemote: true,
  });
};

class RecordedSpan implements Span {
  readonly traceparent: string;
  readonly #span: OtelSpan;

  constructor(span: OtelSpan) {
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.#span = span;
    this.traceparent = formatTraceparent({ traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 });
  }

  set(attributes: SpanAttributes): void {
    this.#span.setAttributes({ ...attributes });
  }

  end(error?: string): void {
    if (!this.#span.isRecording()) return;
    if (error !== undefined) this.#span.setStatus({ code: SpanStatusCode.ERROR, message: error });
    this.#span.end();
  }
}

/** The library drops what it cannot send without a word: the operator hears when that begins and when it is over. */
const toldOf = (exporter: SpanExporter, log: Log): SpanExporter => {
  let failing = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const failed = result.error !== undefined || result.code !== 0;
        if (failed && !failing)
          log.warn({ err: result.error, spans: spans.length }, "spans are not taken by the collector");
        if (!failed && failing) log.info({}, "the collector takes spans again");
        failing = failed;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => exporter.forceFlush?.(),
  };
};
