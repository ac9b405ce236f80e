import { STREAM_WINDOW_BYTES, signatureHeaders } from "@rootstock/protocol";
import { Backoff, type Base, Loop, Probe, type Service } from "@rootstock/service";
import { type ChannelEnd, type ChannelListener, HubChannel } from "./channel.ts";
import type { Credentials } from "./credentials.ts";

const CONNECT_PATH = "/api/v1/runtime-brokers/connect";
/** A session shorter than this did not prove that the hub is well. */
const SHORT_SESSION_MS = 2_000;
/** So many short sessions in a row are followed by a pause: two machines with one credential displace each other. */
const SHORT_SESSIONS_ALLOWED = 3;

export interface LinkOptions {
  /** Read anew before each dial, so that a changed secret needs no restart. */
  readonly credentials: () => Promise<Credentials>;
  readonly concurrentRequests: number;
  readonly maxFrameBytes: number;
  /** The types of streams that `listener` opens. */
  readonly streamTypes: readonly string[];
  readonly listener: ChannelListener;
}

/**
 * Keeps one control channel to the hub (spec/01 3.5). A session that is lost is dialled again at once, whatever the close
 * code, because the next replica is up already; dials that fail wait 1 s, doubling to 60 s, with jitter so that a fleet
 * does not come back in step.
 */
export class Link implements Service {
  readonly probes = {
    connected: new Probe<string>(),
    lost: new Probe<ChannelEnd>(),
    dialFailed: new Probe<ChannelEnd>(),
  };
  readonly #base: Base;
  readonly #options: LinkOptions;
  readonly #loop: Loop;
  #channel: HubChannel | undefined;

  constructor(base: Base, options: LinkOptions) {
    this.#base = base;
    this.#options = options;
    this.#loop = new Loop(base.log, "link", (signal) => this.#run(signal));
  }

  start(): Promise<void> {
    return this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#channel?.close(1000, "runtime broker stops");
    await this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#base;
    const backoff = new Backoff({ firstMs: 1_000, maxMs: 60_000 }, random);
    let shortSessions = 0;
    while (!signal.aborted) {
      const { end, sessionMs } = await this.#session(signal);
      if (signal.aborted) return;
      shortSessions = sessionMs !== undefined && sessionMs < SHORT_SESSION_MS ? shortSessions + 1 : 0;
      if (sessionMs !== undefined && shortSessions < SHORT_SESSIONS_ALLOWED) {
        log.info({ code: end.code, reason: end.reason }, "control channel lost, dialling again");
        backoff.reset();
        this.probes.lost.emit(end);
        continue;
      }
      if (sessionMs === undefined) this.probes.dialFailed.emit(end);
      else this.probes.lost.emit(end);
      const waitMs = backoff.next();
      log.warn({ code: end.code, reason: end.reason, waitMs: Math.round(waitMs) }, "no control channel, waiting");
      await clock.sleep(waitMs, signal);
    }
  }

  /** One socket from dial to close. `sessionMs`: how long it was connected, undefined when it never was. */
  async #session(signal: AbortSignal): Promise<{ end: ChannelEnd; sessionMs: number | undefined }> {
    const { clock, log } = this.#base;
    let connectedAt: number | undefined;
    try {
      const credentials = await this.#options.credentials();
      if (signal.aborted) return { end: { connected: false, code: 1000, reason: "stopped" }, sessionMs: undefined };
      const url = new URL(CONNECT_PATH, credentials.hubUrl);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      const channel = new HubChannel(this.#base, {
        url,
        headers: this.#sign(credentials),
        brokerId: credentials.brokerId,
        extension: {
          concurrentRequests: this.#options.concurrentRequests,
          maxFrameBytes: this.#options.maxFrameBytes,
          remembersMessages: true,
          streamWindowBytes: STREAM_WINDOW_BYTES,
          streamTypes: [...this.#options.streamTypes],
        },
        listener: this.#options.listener,
        onConnected: ({ sessionId }) => {
          connectedAt = clock.elapsed();
          log.info({ sessionId, hubUrl: credentials.hubUrl }, "control channel connected");
          this.probes.connected.emit(sessionId);
        },
      });
      this.#channel = channel;
      const end = await channel.ended;
      return { end, sessionMs: connectedAt === undefined ? undefined : clock.elapsed() - connectedAt };
    } catch (err) {
      const reason = err instanceof Error ? err.message : String(err);
      return { end: { connected: false, code: 1006, reason }, sessionMs: undefined };
    } finally {
      this.#channel = undefined;
    }
  }

  #sign(credentials: Credentials): Record<string, string> {
    return signatureHeaders({
      brokerId: credentials.brokerId,
      secret: credentials.secret,
      method: "GET",
      path: CONNECT_PATH,
      query: "",
      body: Buffer.alloc(0),
      now: this.#base.clock.now(),
      nonce: this.#base.random.bytes(16),
    });
  }
}
