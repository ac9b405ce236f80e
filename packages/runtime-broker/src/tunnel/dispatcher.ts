import { parseTraceparent, type RequestFrame, type ResponseFrame } from "@rootstock/protocol";
import { type Base, Probe, Semaphore } from "@rootstock/service";
import type { Channel } from "../link/channel.ts";
import type { RequestGuard } from "../link/requestGuard.ts";
import type { OperationCall, OperationContext } from "../operations/operation.ts";
import { InputNotTaken, RuntimeFailure, SessionNotRunning } from "../runtimes/runtime.ts";
import type { OperationAnswer } from "./answer.ts";
import { BrokerApiError } from "./errors.ts";
import { parseTunnelRequest, type TunnelRequest } from "./request.ts";
import type { Router } from "./router.ts";

/** Requests that may wait; more are refused at once instead of piling up. */
const MAX_WAITING = 2_000;

export interface DispatcherOptions {
  readonly router: Router;
  readonly guard: RequestGuard;
  readonly context: OperationContext;
  /** How many requests run at once. */
  readonly concurrency: number;
}

/** A request that has been answered, for tests and metrics. */
export interface Answered {
  readonly method: string;
  readonly path: string;
  readonly status: number;
}

/**
 * Runs the hub's requests. Up to `concurrency` at once, but those that change one agent one after the other, in the order
 * in which their frames arrived: so messages to an agent keep theirs. A request runs to its end even when the socket it
 * came over is lost; its answer is dropped then.
 */
export class Dispatcher {
  readonly answered = new Probe<Answered>();
  readonly #base: Base;
  readonly #options: DispatcherOptions;
  readonly #slots: Semaphore;
  #waiting = 0;
  readonly #running = new Set<Promise<void>>();

  constructor(base: Base, options: DispatcherOptions) {
    this.#base = base;
    this.#options = options;
    this.#slots = new Semaphore(options.concurrency);
  }

  /** Takes a request; the answer goes out over `channel`. Never throws. */
  handle(channel: Channel, frame: RequestFrame, secret: Uint8Array): void {
    const running = this.#handle(channel, frame, secret).catch((err: unknown) => {
      this.#base.log.error({ err }, "answering a request failed");
    });
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** Resolves when nothing runs any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #handle(channel: Channel, frame: RequestFrame, secret: Uint8Array): Promise<void> {
    const startedAt = this.#base.clock.elapsed();
    // Everything up to taking the turn happens now, in the order of the frames.
    const answer = await this.#start(frame, channel, secret).catch((err: unknown) => this.#refusal(err));
    const path = frame.path.split("?")[0] ?? "";
    this.#base.log.info(
      {
        method: frame.method,
        path,
        status: answer.status,
        ms: Math.round(this.#base.clock.elapsed() - startedAt),
        ...traceOf(frame),
      },
      "request",
    );
    channel.send(responseFrame(frame.requestId, answer, channel.maxFrameBytes));
    this.answered.emit({ method: frame.method, path, status: answer.status });
  }

  async #start(frame: RequestFrame, channel: Channel, secret: Uint8Array): Promise<OperationAnswer> {
    const { router, guard, context } = this.#options;
    const request = parseTunnelRequest(frame);
    const authenticate = () => guard.check(request, secret);
    const route = this.#route(router, request, authenticate);
    if (!route.operation.unsigned) authenticate();
    const call: OperationCall = {
      request,
      params: route.params,
      maxBodyBytes: maxBodyBytes(frame.requestId, channel.maxFrameBytes),
    };
    if (this.#waiting >= MAX_WAITING) throw new BrokerApiError("unavailable", "too many requests are waiting");
    const key = route.operation.turn?.(call, context);
    this.#waiting += 1;
    const work = () =>
      this.#slots.run(() => {
        this.#waiting -= 1;
        return route.operation.run(call, context);
      });
    return key === undefined ? work() : context.agents.turns.run(key, work);
  }

  /** Nobody without a signature learns which paths exist. */
  #route(router: Router, request: TunnelRequest, authenticate: () => void): ReturnType<Router["find"]> {
    try {
      return router.find(request);
    } catch (err) {
      authenticate();
      throw err;
    }
  }

  #refusal(err: unknown): OperationAnswer {
    const known = toBrokerApiError(err);
    if (known.code === "internal_error") this.#base.log.error({ err }, "an operation failed");
    return { status: known.status, json: known.toBody() };
  }
}

/** The call that a request belongs to, if the hub says: with it, lines here are found beside the hub's own. */
const traceOf = ({ headers }: RequestFrame): { readonly traceparent: string } | undefined => {
  const traceparent = headers?.traceparent;
  return traceparent !== undefined && parseTraceparent(traceparent) ? { traceparent } : undefined;
};

/** What a thrown value says to the hub. */
const toBrokerApiError = (err: unknown): BrokerApiError => {
  if (err instanceof BrokerApiError) return err;
  if (err instanceof SessionNotRunning)
    return new BrokerApiError("agent_not_running", "the agent is not running", { cause: err });
  // With 409 the hub keeps what it was asked to type, and comes again.
  if (err instanceof InputNotTaken) return new BrokerApiError("conflict", err.message, { cause: err });
  if (err instanceof RuntimeFailure) return new BrokerApiError("runtime_error", err.message, { cause: err });
  return new BrokerApiError("internal_error", "internal error", { cause: err });
};

const encodeBody = (answer: OperationAnswer): { type: string; bytes: Buffer } | undefined => {
  if (answer.json !== undefined) return { type: "application/json", bytes: Buffer.from(JSON.stringify(answer.json)) };
  if (answer.text !== undefined) return { type: "text/plain", bytes: Buffer.from(answer.text) };
  return undefined;
};

/** The largest raw body whose frame, with its base64 and its other fields, has at most `maxFrameBytes` bytes. */
const maxBodyBytes = (requestId: string, maxFrameBytes: number): number =>
  Math.floor((maxFrameBytes - 512 - Buffer.byteLength(JSON.stringify(requestId))) / 4) * 3;

/** The response frame; an answer that the hub could not read becomes an error, because it would cost the whole channel. */
const responseFrame = (requestId: string, answer: OperationAnswer, maxFrameBytes: number): ResponseFrame => {
  const body = encodeBody(answer);
  const max = maxBodyBytes(requestId, maxFrameBytes);
  if (body === undefined || body.bytes.byteLength <= max) {
    return {
      type: "response",
      requestId,
      statusCode: answer.status,
      ...(body && { headers: { "Content-Type": body.type }, body: body.bytes.toString("base64") }),
    };
  }
  const message = `the answer has ${body.bytes.byteLength} bytes, the hub reads at most ${max}`;
  const error = new BrokerApiError("payload_too_large", message);
  const json = Buffer.from(JSON.stringify(error.toBody()));
  return {
    type: "response",
    requestId,
    statusCode: error.status,
    headers: { "Content-Type": "application/json" },
    body: json.toString("base64"),
  };
};
