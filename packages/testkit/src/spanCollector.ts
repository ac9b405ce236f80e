import { createServer } from "node:http";
import { Probe } from "@rootstock/service";

/** A span as a collector got it. */
export interface CollectedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  /** OTLP's number: 2 server, 3 client, 4 producer, 5 consumer. */
  readonly kind: number;
  readonly failed: boolean;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Attributes of the process that sent it. */
  readonly resource: Readonly<Record<string, unknown>>;
}

/** An OTLP collector on a port of its own: HTTP with JSON, as replicas send it. */
export class SpanCollector {
  readonly spans: CollectedSpan[] = [];
  /** Headers of each export. */
  readonly exports: Readonly<Record<string, unknown>>[] = [];
  readonly onSpan = new Probe<CollectedSpan>();
  /** What the next exports are answered with. */
  status = 200;
  #held: (() => void)[] | undefined;
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      this.exports.push(request.headers);
      if (request.url !== "/v1/traces") response.writeHead(404).end();
      else {
        if (this.status === 200) this.#take(JSON.parse(Buffer.concat(chunks).toString("utf8")));
        const answer = () => void response.writeHead(this.status, { "content-type": "application/json" }).end("{}");
        if (this.#held) this.#held.push(answer);
        else answer();
      }
    });
  });

  static async start(): Promise<SpanCollector> {
    const collector = new SpanCollector();
    await new Promise<void>((resolve, reject) => {
      collector.#server.once("error", reject);
      collector.#server.listen(0, "127.0.0.1", resolve);
    });
    return collector;
  }

  /** For `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  get endpoint(): string {
    const address = this.#server.address();
    if (typeof address !== "object" || address === null) throw new Error("the collector does not listen");
    return `http://127.0.0.1:${address.port}`;
  }

  /** Answers no export from now on, until the returned function is called. */
  hold(): () => void {
    this.#held ??= [];
    return () => {
      const answers = this.#held ?? [];
      this.#held = undefined;
      for (const answer of answers) answer();
    };
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #take(body: OtlpTraces): void {
    for (const { resource, scopeSpans } of body.resourceSpans)
      for (const span of scopeSpans.flatMap((s) => s.spans)) {
        const collected = {
          name: span.name,
          traceId: span.traceId,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId || undefined,
          kind: span.kind,
          failed: span.status?.code === 2,
          attributes: plain(span.attributes),
          resource: plain(resource.attributes),
        };
        this.spans.push(collected);
        this.onSpan.emit(collected);
      }
  }
}

interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

interface OtlpSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly status?: { readonly code?: number };
  readonly attributes: readonly OtlpAttribute[];
}

interface OtlpAttribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

const plain = (attributes: readonly OtlpAttribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
