import type { KeyObject } from "node:crypto";
import { type ResponseFrame, responseFrame, signatureHeaders, type Uuid } from "@rootstock/protocol";
import type { Base, Timer } from "@rootstock/service";
import { passedOn, type Span, type Tracing } from "../telemetry/index.ts";
import type { ControlOptions, PeerLimits } from "./options.ts";
import { TunnelError } from "./tunnelError.ts";

export interface TunnelRequest {
  readonly method: string;
  /** Absolute and percent-encoded, without a query. */
  readonly path: string;
  /** Raw, without `?`. */
  readonly query?: string;
  /** An object goes as JSON. */
  readonly body?: Uint8Array | object;
  /** Milliseconds from now, the time spent waiting for a turn included. */
  readonly timeoutMs?: number;
  /** Ends the wait. A request that is on the wire is executed all the same. */
  readonly signal?: AbortSignal;
  /** Lifecycle goes ahead of everything else that waits for its turn. */
  readonly priority?: "lifecycle" | "normal";
  /** What it is done for: sent along as a header, which unmodified runtime brokers ignore. */
  readonly traceparent?: string | undefined;
}

export interface TunnelResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** What all tunnels of a replica share. */
export interface TunnelShared {
  readonly base: Base;
  readonly options: ControlOptions;
  /** Keys that a runtime broker may still verify with, besides the one that its socket was opened with. */
  readonly signingKeys: (runtimeBrokerId: Uuid) => Promise<readonly KeyObject[]>;
  readonly tracing: Tracing;
}

/** The socket below a tunnel. */
export interface FrameSink {
  readonly runtimeBrokerId: Uuid;
  readonly limits: PeerLimits;
  /** False when the socket takes no more. */
  send(text: string): boolean;
  /** A request has left the wire and none in line has taken its place. */
  freed(): void;
}

interface Job {
  readonly request: TunnelRequest;
  readonly body: Uint8Array;
  readonly resolve: (response: TunnelResponse) => void;
  readonly reject: (err: TunnelError) => void;
  timer: Timer | undefined;
  onAbort: (() => void) | undefined;
  /** The caller has its answer, or has given up. */
  settled: boolean;
  /** The runtime broker refused the signature: nothing was executed, and another key is being looked for. */
  refused: boolean;
  retried: boolean;
  key: KeyObject;
  sentAt: number;
  readonly span: Span;
}

const NO_BYTES = new Uint8Array(0);
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/**
 * Requests over one socket: at most as many on the wire as the runtime broker executes at once, the rest in line. A
 * request that its caller has given up on keeps its place on the wire until it is answered: an unmodified runtime broker
 * is still busy with it, and the next one would only wait there instead of here.
 */
export class Tunnel {
  readonly #sink: FrameSink;
  readonly #shared: TunnelShared;
  #key: KeyObject;
  // Made on first use: most sockets are idle most of the time.
  #inFlight: Map<string, Job> | undefined;
  #lifecycle: Job[] | undefined;
  #normal: Job[] | undefined;
  #idle: (() => void)[] | undefined;
  #closed: string | undefined;

  constructor(sink: FrameSink, key: KeyObject, shared: TunnelShared) {
    this.#sink = sink;
    this.#key = key;
    this.#shared = shared;
  }

  /** Sends a request when its turn comes. Throws `TunnelError`. */
  call(request: TunnelRequest): Promise<TunnelResponse> {
    if (this.#closed !== undefined) return Promise.reject(new TunnelError("not_sent", this.#closed));
    if (request.signal?.aborted) return Promise.reject(new TunnelError("not_sent", "the caller has gone away"));
    if (!isDecodable(request.path))
      return Promise.reject(new TunnelError("not_sent", "the path is not percent-encoded"));
    return new Promise((resolve, reject) => {
      const job: Job = {
        request,
        body: bodyBytes(request.body),
        resolve,
        reject,
        timer: undefined,
        onAbort: undefined,
        settled: false,
        refused: false,
        retried: false,
        key: this.#key,
        sentAt: 0,
        span: this.#span(request),
      };
      const limit = Math.min(request.timeoutMs ?? Number.POSITIVE_INFINITY, this.#shared.options.requestLimitMs);
      job.timer = this.#shared.base.clock.after(limit, () => this.#giveUp(job, "timeout", "no answer in time"));
      if (request.signal) {
        job.onAbort = () => this.#giveUp(job, "lost", "the caller has gone away");
        request.signal.addEventListener("abort", job.onAbort, { once: true });
      }
      if (request.priority === "lifecycle") {
        this.#lifecycle ??= [];
        this.#lifecycle.push(job);
      } else {
        this.#normal ??= [];
        this.#normal.push(job);
      }
      this.pump();
    });
  }

  /** Requests on the wire, those that nobody waits for any more included. */
  inFlight(): number {
    return this.#inFlight?.size ?? 0;
  }

  /** Requests that wait for their turn. */
  queued(): number {
    return (this.#lifecycle?.length ?? 0) + (this.#normal?.length ?? 0);
  }

  /** When the oldest request on the wire was sent, by the clock's `elapsed`; undefined when there is none. */
  oldestSentAt(): number | undefined {
    if (!this.#inFlight) return undefined;
    for (const job of this.#inFlight.values()) return job.sentAt;
    return undefined;
  }

  /** Sends what may be sent now. */
  pump(): void {
    while (this.#closed === undefined && this.inFlight() < this.#sink.limits.concurrentRequests) {
      const job = this.#lifecycle?.shift() ?? this.#normal?.shift();
      if (!job) break;
      this.#send(job);
    }
  }

  /** Takes no more requests and refuses those that wait for their turn; what is on the wire goes on. */
  retire(reason: string): void {
    this.#closed ??= reason;
    for (const job of this.#takeQueued()) this.#settle(job, new TunnelError("not_sent", reason));
  }

  /** Resolves when nothing is on the wire. */
  idle(): Promise<void> {
    if (this.inFlight() === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle ??= [];
      this.#idle.push(resolve);
    });
  }

  /** The socket has ended. */
  end(reason: string): void {
    this.retire(reason);
    const jobs = [...(this.#inFlight?.values() ?? [])];
    this.#inFlight = undefined;
    for (const job of jobs)
      this.#settle(
        job,
        new TunnelError(job.refused ? "not_sent" : "lost", `connection to the runtime broker lost: ${reason}`),
      );
    this.#becameIdle();
  }

  /** Frees the places of requests past the limit whose runtime broker goes on meanwhile; a serial one is still busy. */
  expire(now: number): void {
    if (!this.#inFlight || this.#sink.limits.serial) return;
    for (const [id, job] of this.#inFlight)
      if (job.settled && now - job.sentAt > this.#shared.options.requestLimitMs) this.#remove(id);
  }

  /** Takes an answer. `frame` has the type `response`; anything about it may be wrong. */
  answer(frame: unknown): void {
    const id = idOf(frame);
    const job = id === undefined ? undefined : this.#inFlight?.get(id);
    // Unknown: the request was given up, or the runtime broker makes things up. Neither concerns anybody.
    if (id === undefined || !job || job.refused) return;
    const parsed = responseFrame.safeParse(frame);
    if (!parsed.success || !isAnswer(parsed.data)) {
      this.#remove(id);
      this.#settle(job, new TunnelError("lost", "the runtime broker sent a malformed answer"));
      return;
    }
    const response = toResponse(parsed.data);
    if (isRefusedSignature(response) && !job.retried && !job.settled) {
      this.#retryWithOtherKey(id, job, response);
      return;
    }
    if (job.retried && !isRefusedSignature(response)) this.#key = job.key;
    this.#remove(id);
    this.#settle(job, response);
  }

  #send(job: Job): void {
    const { base } = this.#shared;
    const { request, body } = job;
    const id = base.random.uuid();
    const query = request.query ?? "";
    const text = JSON.stringify({
      type: "request",
      requestId: id,
      method: request.method,
      path: request.path,
      ...(query && { query }),
      headers: {
        "Content-Type": "application/json",
        ...(job.span.traceparent && { traceparent: job.span.traceparent }),
        ...signatureHeaders({
          brokerId: this.#sink.runtimeBrokerId,
          secret: job.key,
          method: request.method,
          path: request.path,
          query,
          body,
          now: base.clock.now(),
          nonce: bytesOf(id),
        }),
      },
      ...(body.byteLength > 0 && {
        body: Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("base64"),
      }),
    });
    const bytes = Buffer.byteLength(text);
    const limit = this.#sink.limits.maxFrameBytes;
    if (bytes > limit) {
      this.#settle(
        job,
        new TunnelError("too_large", `the runtime broker reads at most ${limit} bytes, this is ${bytes}`),
      );
      return;
    }
    if (!this.#sink.send(text)) {
      this.#settle(job, new TunnelError("not_sent", "connection to the runtime broker lost"));
      return;
    }
    job.refused = false;
    job.sentAt = base.clock.elapsed();
    this.#inFlight ??= new Map();
    this.#inFlight.set(id, job);
  }

  /**
   * A runtime broker that was registered anew while it ran goes on verifying with its former key until it restarts
   * (spec/01 1.5). The refused request was not executed; it keeps its place and is sent once more.
   */
  #retryWithOtherKey(id: string, job: Job, refusal: TunnelResponse): void {
    job.refused = true;
    job.retried = true;
    this.#shared
      .signingKeys(this.#sink.runtimeBrokerId)
      .catch((err: unknown) => {
        this.#shared.base.log.warn({ err, runtimeBrokerId: this.#sink.runtimeBrokerId }, "reading former keys failed");
        return [];
      })
      .then((keys) => {
        if (this.#inFlight?.get(id) !== job) return;
        const other = keys.find((key) => !key.equals(job.key));
        this.#inFlight.delete(id);
        if (other && !job.settled) {
          job.key = other;
          this.#send(job);
        } else this.#settle(job, refusal);
        this.#afterRemoval();
      });
  }

  #giveUp(job: Job, kind: "timeout" | "lost", message: string): void {
    if (job.settled) return;
    const waiting = this.#unqueue(job) || job.refused;
    this.#settle(
      job,
      new TunnelError(waiting ? "not_sent" : kind, waiting ? `${message}, before its turn came` : message),
    );
  }

  #unqueue(job: Job): boolean {
    for (const queue of [this.#lifecycle, this.#normal]) {
      const at = queue?.indexOf(job) ?? -1;
      if (at < 0) continue;
      queue?.splice(at, 1);
      return true;
    }
    return false;
  }

  #takeQueued(): Job[] {
    const jobs = [...(this.#lifecycle ?? []), ...(this.#normal ?? [])];
    this.#lifecycle = undefined;
    this.#normal = undefined;
    return jobs;
  }

  #remove(id: string): void {
    this.#inFlight?.delete(id);
    this.#afterRemoval();
  }

  #afterRemoval(): void {
    this.pump();
    if (this.inFlight() === 0) this.#becameIdle();
    if (this.#closed === undefined && this.inFlight() < this.#sink.limits.concurrentRequests) this.#sink.freed();
  }

  #becameIdle(): void {
    const waiting = this.#idle;
    this.#idle = undefined;
    for (const resolve of waiting ?? []) resolve();
  }

  #settle(job: Job, outcome: TunnelResponse | TunnelError): void {
    if (job.settled) return;
    job.settled = true;
    job.timer?.cancel();
    if (job.onAbort) job.request.signal?.removeEventListener("abort", job.onAbort);
    if (outcome instanceof TunnelError) {
      job.span.end(`${outcome.kind}: ${outcome.message}`);
      job.reject(outcome);
    } else {
      job.span.set({ "http.response.status_code": outcome.status });
      job.span.end(outcome.status >= 500 ? `answered ${outcome.status}` : undefined);
      job.resolve(outcome);
    }
  }

  /** From taking the request, so that the time in line shows. What belongs to no trace begins none. */
  #span({ traceparent, method, path }: TunnelRequest): Span {
    const { tracing } = this.#shared;
    if (!traceparent || !tracing.on) return passedOn(traceparent);
    const { runtimeBrokerId } = this.#sink;
    return tracing.begin(`tunnel ${method}`, "client", traceparent, {
      "http.request.method": method,
      "url.path": path,
      "rootstock.runtime_broker_id": runtimeBrokerId,
    });
  }
}

/** The signature covers the decoded path. */
const isDecodable = (path: string): boolean => {
  if (!path.includes("%")) return true;
  try {
    decodeURIComponent(path);
    return true;
  } catch {
    return false;
  }
};

const bodyBytes = (body: Uint8Array | object | undefined): Uint8Array => {
  if (body === undefined) return NO_BYTES;
  return body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
};

/** The bytes of a random id, which is new for each sending. To draw others would cost more than the signature. */
const bytesOf = (id: string): Uint8Array => Buffer.from(id.replaceAll("-", ""), "hex");

const idOf = (frame: unknown): string | undefined =>
  typeof frame === "object" && frame !== null && "requestId" in frame && typeof frame.requestId === "string"
    ? frame.requestId
    : undefined;

const isAnswer = (frame: ResponseFrame): boolean =>
  frame.statusCode >= 100 && frame.statusCode <= 599 && BASE64.test(frame.body ?? "");

const toResponse = (frame: ResponseFrame): TunnelResponse => ({
  status: frame.statusCode,
  headers: Object.fromEntries(Object.entries(frame.headers ?? {}).map(([k, v]) => [k.toLowerCase(), v])),
  body: Buffer.from(frame.body ?? "", "base64"),
});

const isRefusedSignature = (response: TunnelResponse): boolean =>
  response.status === 401 && response.body.includes("broker_auth_failed");
