import type { Base } from "@rootstock/service";
import type { Owner } from "@rootstock/store";
import { type RawData, WebSocket } from "ws";
import { REPLICA_TOKEN_HEADER, type ReplicaTokens } from "../auth/index.ts";
import type { StreamEnd, StreamHandler } from "../control/index.ts";
import { bytesOf, jsonOf, Keepalive, type KeepaliveTimes } from "../sockets/index.ts";
import type { AgentStream, AgentStreamRequest, OwnerLink, Tended } from "./agentStream.ts";
import { LOST } from "./closeCodes.ts";
import { Doubt, type IsOwner } from "./ownerMoved.ts";
import { type FromEntry, fromOwner, INTERNAL_STREAMS_PATH, toQuery } from "./peerFrames.ts";
import type { Tending } from "./tending.ts";

const DIAL_TIMEOUT_MS = 3_000;
export const PEER_KEEPALIVE: KeepaliveTimes = { pingMs: 5_000, silenceMs: 15_000 };
/** An owner that has not answered a ping may hang. */
const SUSPECT_MS = PEER_KEEPALIVE.pingMs * 1.5;
/** Messages are pieces of one runtime broker's frames. */
export const PEER_MAX_PAYLOAD_BYTES = 16_777_216;
/** Consumed bytes are told in steps of this, well below the window of a stream. */
const CONSUMED_STEP_BYTES = 65_536;
const CLOSE_TIMEOUT_MS = 5_000;
const NOT_OWNER = 409;

export interface PeerLinkDeps {
  readonly tokens: ReplicaTokens;
  readonly tending: Tending;
  readonly isOwner: IsOwner;
}

/** Streams through a WebSocket to the owner's internal URL (design section 8). */
export class PeerLink implements OwnerLink {
  readonly #base: Base;
  readonly #deps: PeerLinkDeps;

  constructor(base: Base, deps: PeerLinkDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  reaches(owner: Owner): boolean {
    return owner.internalUrl !== null;
  }

  async open(
    owner: Owner,
    request: AgentStreamRequest,
    handler: StreamHandler,
  ): Promise<AgentStream | "not_owner" | "unreachable"> {
    if (!owner.internalUrl) return "unreachable";
    const url = new URL(`${INTERNAL_STREAMS_PATH}?${toQuery(request)}`, owner.internalUrl);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const ws = new WebSocket(url, {
      headers: { [REPLICA_TOKEN_HEADER]: await this.#deps.tokens.issue(owner.instanceId) },
      handshakeTimeout: DIAL_TIMEOUT_MS,
      perMessageDeflate: false,
      followRedirects: false,
      maxPayload: PEER_MAX_PAYLOAD_BYTES,
    });
    return new Promise((resolve) => {
      const failed = (err: Error) => {
        this.#base.log.info({ err, owner: owner.instanceId }, "peer replica not reached for a stream");
        resolve("unreachable");
      };
      ws.on("error", failed);
      ws.once("unexpected-response", (_, response) => {
        // The dial is given up by hand, which is an error of its own.
        resolve(response.statusCode === NOT_OWNER ? "not_owner" : "unreachable");
        if (response.statusCode !== NOT_OWNER)
          this.#base.log.warn(
            { status: response.statusCode, owner: owner.instanceId },
            "peer replica refused a stream",
          );
        response.resume();
        ws.terminate();
      });
      ws.once("open", () => {
        const terminal = new PeerStream(this.#base, ws, handler, {
          isOwner: () => this.#deps.isOwner(owner, request.runtimeBrokerId),
          onGone: () => this.#deps.tending.remove(terminal),
        });
        this.#deps.tending.add(terminal);
        resolve(terminal);
      });
    });
  }
}

interface PeerStreamOptions {
  readonly isOwner: () => Promise<boolean>;
  readonly onGone: () => void;
}

/** The entry replica's end of a terminal whose runtime broker hangs on another replica. */
class PeerStream implements AgentStream, Tended {
  readonly #base: Base;
  readonly #ws: WebSocket;
  readonly #handler: StreamHandler;
  readonly #keepalive: Keepalive;
  readonly #doubt: Doubt;
  #unreported = 0;
  #ended = false;

  constructor(base: Base, ws: WebSocket, handler: StreamHandler, { isOwner, onGone }: PeerStreamOptions) {
    this.#base = base;
    this.#ws = ws;
    this.#handler = handler;
    this.#keepalive = new Keepalive(ws, base.clock, PEER_KEEPALIVE);
    this.#doubt = new Doubt(isOwner, () => {
      this.#end({ code: undefined, reason: LOST.brokerDisconnected });
      this.close(LOST.brokerDisconnected);
    });
    ws.on("message", (data, isBinary) => this.#receive(data, isBinary));
    ws.once("close", () => {
      onGone();
      this.#end({ code: undefined, reason: LOST.brokerDisconnected });
    });
  }

  write(data: Uint8Array): void {
    if (!this.#ended && this.#ws.readyState === this.#ws.OPEN) this.#ws.send(data);
  }

  resize(cols: number, rows: number): void {
    this.#tell({ type: "resize", cols, rows });
  }

  consumed(bytes: number): void {
    this.#unreported += bytes;
    if (this.#unreported < CONSUMED_STEP_BYTES) return;
    this.#tell({ type: "consumed", bytes: this.#unreported });
    this.#unreported = 0;
  }

  close(reason: string): void {
    this.#ended = true;
    this.#ws.close(1000, reason);
    const timer = this.#base.clock.after(CLOSE_TIMEOUT_MS, () => this.#ws.terminate());
    this.#ws.once("close", () => timer.cancel());
  }

  tick(now: number): void {
    this.#keepalive.tick(now);
    if (!this.#ended && this.#keepalive.silentMs(now) > SUSPECT_MS) this.#doubt.look();
  }

  shutDown(): void {
    this.#end({ code: undefined, reason: LOST.shuttingDown });
    this.close(LOST.shuttingDown);
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (this.#ended) return;
    if (isBinary) {
      this.#handler.onData(bytesOf(data));
      return;
    }
    const frame = fromOwner.safeParse(jsonOf(data));
    if (!frame.success) return;
    if (frame.data.type === "taken") this.#handler.onTaken(frame.data.bytes);
    else {
      this.#end({ code: frame.data.code, reason: frame.data.reason });
      this.close("ended");
    }
  }

  #tell(frame: FromEntry): void {
    if (!this.#ended && this.#ws.readyState === this.#ws.OPEN) this.#ws.send(JSON.stringify(frame));
  }

  #end(end: StreamEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handler.onClose(end);
  }
}
