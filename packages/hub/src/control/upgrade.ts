import type { KeyObject } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HubError, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { isDatabaseUnavailable, isInDoubt, isStatementTimeout } from "@rootstock/store";
import { WebSocketServer } from "ws";
import { FlapGuard } from "./flapGuard.ts";
import type { ControlOptions } from "./options.ts";
import type { Ownership } from "./ownership.ts";
import { refuseSocket } from "./refuseSocket.ts";
import type { Registry } from "./registry.ts";
import type { SocketProofs } from "./socketProofs.ts";

/** Where runtime brokers dial, at the root of the host whatever the hub's URL (spec/01 3.1). */
export const CONTROL_CHANNEL_PATH = "/api/v1/runtime-brokers/connect";

/** What the signature of a dial covers, and how it is verified. `RuntimeBrokerSignatures` is one. */
export interface DialVerifier {
  verify(request: {
    readonly method: string;
    readonly path: string;
    readonly query: string;
    readonly headers: Headers;
    readonly peer: string;
    readonly body: () => Promise<Uint8Array>;
  }): Promise<{ readonly runtimeBrokerId: Uuid; readonly key: KeyObject; readonly until?: number | undefined }>;
}

export interface ControlChannelDeps {
  readonly registry: Registry;
  readonly ownership: Ownership;
  readonly signatures: DialVerifier;
  readonly proofs: Pick<SocketProofs, "changes" | "look">;
  readonly options: ControlOptions;
}

/** A runtime broker that is refused backs off by itself; the header is for others. */
const RETRY_AFTER_SECONDS = 2;
const KEEPALIVE_MS = 30_000;
const WEBSOCKET_KEY = /^[+/0-9A-Za-z]{22}==$/;

/** The dials of runtime brokers: signature, claim, handshake. */
export class ControlChannel {
  readonly #base: Base;
  readonly #deps: ControlChannelDeps;
  readonly #wss: WebSocketServer;
  readonly #flaps: FlapGuard;
  #delayed = 0;

  constructor(base: Base, deps: ControlChannelDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#flaps = new FlapGuard(base.clock);
    this.#wss = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: deps.options.legacyMaxReplyBytes,
    });
  }

  /** Sockets taken from one that had not been given up, and handshakes delayed for it, since the start. */
  stats(): { readonly displaced: number; readonly delayed: number } {
    return { displaced: this.#flaps.total, delayed: this.#delayed };
  }

  /** Whether an upgrade of this URL (as in the request line) is for the control channel. */
  handles(url: string | undefined): boolean {
    return url?.split("?", 1)[0] === CONTROL_CHANNEL_PATH;
  }

  /** Answers an upgrade that `handles`. Never throws; whatever goes wrong is answered in HTTP. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Until the socket is handed over, nobody else listens: an unheard error would end the process.
    const onError = () => socket.destroy();
    socket.on("error", onError);
    this.#accept(request, socket, head, onError).catch((err: unknown) => refuseSocket(socket, this.#errorOf(err)));
  }

  async #accept(request: IncomingMessage, socket: Duplex, head: Buffer, onError: () => void): Promise<void> {
    const { registry, ownership, signatures, proofs } = this.#deps;
    checkUpgrade(request);
    this.#refuseWhenShut();
    const { changes } = proofs;
    const { runtimeBrokerId, key, until } = await signatures.verify(credentialsOf(request));
    await this.#delay(runtimeBrokerId);
    if (socket.destroyed) return;
    this.#refuseWhenShut();
    const sessionId = this.#base.random.uuid();
    // Before the upgrade is answered: a runtime broker backs off from a refused dial, and redials a closed socket at once.
    const claimed = await ownership.claim({ runtimeBrokerId, sessionId }).catch((err: unknown) => {
      // Committed or not: a row that names a socket that never was would mislead everybody.
      if (isInDoubt(err)) registry.abandon({ runtimeBrokerId, sessionId });
      throw err;
    });
    if (!claimed) throw new HubError("broker_auth_failed", "unknown runtime broker");
    if (claimed.displaced) this.#flaps.displaced(runtimeBrokerId);
    let handedOver = false;
    try {
      if (!socket.destroyed) {
        socket.off("error", onError);
        // A host that vanishes in the middle of a long request is not noticed by pings, which wait for its end.
        request.socket.setKeepAlive(true, KEEPALIVE_MS);
        this.#wss.handleUpgrade(request, socket, head, (ws) => {
          handedOver = true;
          registry.add(ws, { runtimeBrokerId, sessionId, key, mark: claimed.mark });
        });
      }
    } finally {
      if (!handedOver) registry.abandon({ runtimeBrokerId, sessionId });
    }
    if (until !== undefined || proofs.changes !== changes) void proofs.look(runtimeBrokerId);
    this.#base.log.info({ runtimeBrokerId, sessionId, displaced: claimed.displaced }, "runtime broker connected");
  }

  #refuseWhenShut(): void {
    const refusal = this.#deps.registry.refusal();
    if (refusal) throw new HubError("unavailable", refusal, { retryAfter: RETRY_AFTER_SECONDS });
  }

  async #delay(runtimeBrokerId: Uuid): Promise<void> {
    const ms = this.#flaps.delayMs(runtimeBrokerId);
    if (ms === 0) return;
    this.#delayed += 1;
    this.#base.log.warn({ runtimeBrokerId, ms }, "connections of this runtime broker displace each other; delaying");
    await this.#base.clock.sleep(ms);
  }

  #errorOf(err: unknown): HubError {
    if (err instanceof HubError) return err;
    this.#base.log.warn({ err }, "dial of a runtime broker failed");
    if (isDatabaseUnavailable(err) || isStatementTimeout(err))
      return new HubError("unavailable", "the database is not available", { retryAfter: RETRY_AFTER_SECONDS });
    return new HubError("internal_error", "the dial failed");
  }
}

const checkUpgrade = (request: IncomingMessage): void => {
  const { headers, method } = request;
  const version = headers["sec-websocket-version"];
  if (
    method !== "GET" ||
    headers.upgrade?.toLowerCase() !== "websocket" ||
    !WEBSOCKET_KEY.test(headers["sec-websocket-key"] ?? "") ||
    (version !== "13" && version !== "8")
  )
    throw new HubError("invalid_request", "a WebSocket upgrade is expected here");
};

/** What an upgrade is authenticated by; it has no body. */
export const credentialsOf = (request: IncomingMessage): Parameters<DialVerifier["verify"]>[0] => {
  const [path = "", ...rest] = (request.url ?? "").split("?");
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers))
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  return {
    method: request.method ?? "GET",
    path,
    query: rest.join("?"),
    headers,
    peer: request.socket.remoteAddress ?? "",
    body: async () => new Uint8Array(0),
  };
};
