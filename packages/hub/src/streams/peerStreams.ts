import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HubError } from "@rootstock/protocol";
import { type Base, Pacer, Pieces } from "@rootstock/service";
import type { RawData, WebSocket } from "ws";
import type { Credentials, Principal } from "../auth/index.ts";
import type { Registry, StreamEnd, StreamHandler } from "../control/index.ts";
import {
  bytesOf,
  jsonOf,
  Keepalive,
  type Met,
  type Prepared,
  type Refused,
  refusing,
  Upgrades,
} from "../sockets/index.ts";
import type { AgentStream, Tended } from "./agentStream.ts";
import { openHere } from "./openHere.ts";
import { type FromOwner, fromEntry, fromQuery, INTERNAL_STREAMS_PATH } from "./peerFrames.ts";
import { PEER_KEEPALIVE, PEER_MAX_PAYLOAD_BYTES } from "./peerLink.ts";
import type { Tending } from "./tending.ts";

export interface PeerStreamsDeps {
  readonly registry: Registry;
  readonly tending: Tending;
  readonly authenticate: (credentials: Credentials) => Promise<Principal>;
  readonly toError: (err: unknown) => HubError;
  readonly met: Met;
  /** Told of who is refused for want of rights; nobody waits for that. */
  readonly refused: Refused;
}

/** Serves terminals to other replicas, for the runtime brokers whose sockets this one holds. */
export class PeerStreams {
  readonly #base: Base;
  readonly #deps: PeerStreamsDeps;
  readonly #upgrades: Upgrades;

  constructor(base: Base, deps: PeerStreamsDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#upgrades = new Upgrades({ maxPayload: PEER_MAX_PAYLOAD_BYTES, toError: deps.toError });
  }

  handles(url: string | undefined): boolean {
    return url?.split("?", 1)[0] === INTERNAL_STREAMS_PATH;
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#upgrades.take(request, socket, head, (credentials) => this.#prepare(credentials));
  }

  async #prepare(credentials: Credentials): Promise<Prepared> {
    const { authenticate, refused, met } = this.#deps;
    const principal = await authenticate(credentials);
    met(principal, credentials);
    if (principal.kind === "nobody") throw new HubError("unauthorized", "missing replica token");
    if (principal.kind !== "replica") throw refusing(refused, principal, credentials, "only replicas may do this");
    const request = fromQuery(credentials.query);
    if (!request) throw new HubError("invalid_request", "the query names no stream");
    const viewer = new PeerViewer();
    const terminal = this.#deps.tending.open ? openHere(this.#base, this.#deps.registry, request, viewer) : undefined;
    if (!terminal) throw new HubError("conflict", "this replica does not hold the runtime broker's socket");
    return {
      begin: (ws) => {
        viewer.begin(this.#base, ws, terminal, () => this.#deps.tending.remove(viewer));
        this.#deps.tending.add(viewer);
      },
      abandon: () => terminal.close("session closed"),
    };
  }
}

const PIECES = { pieceBytes: 65_536, aheadBytes: 65_536 };

/** The owner's end: another replica looks on behalf of its viewer. */
class PeerViewer implements StreamHandler, Tended {
  #ws: WebSocket | undefined;
  #keepalive: Keepalive | undefined;
  readonly #output = new Pacer({ ...PIECES, transmit: (piece) => this.#send(piece) });
  /** What came before the socket was there. */
  readonly #early = new Pieces(PIECES.pieceBytes);
  #ended: StreamEnd | undefined;

  begin(base: Base, ws: WebSocket, terminal: AgentStream, onGone: () => void): void {
    this.#ws = ws;
    this.#keepalive = new Keepalive(ws, base.clock, PEER_KEEPALIVE);
    ws.on("message", (data, isBinary) => receive(terminal, data, isBinary));
    ws.on("error", (err) => base.log.debug({ err }, "socket of a peer replica failed"));
    ws.once("close", () => {
      onGone();
      terminal.close("session closed");
    });
    for (let data = this.#early.shift(); data; data = this.#early.shift()) this.#output.push(data);
    if (this.#ended) this.onClose(this.#ended);
  }

  // Whatever is handed to the socket counts as unread until the viewer's own replica says otherwise.
  onData(data: Buffer): void {
    if (this.#ws) this.#output.push(data);
    else this.#early.push(data);
  }

  onTaken(bytes: number): void {
    this.#tell({ type: "taken", bytes });
  }

  onClose(end: StreamEnd): void {
    const { reason, code } = end;
    this.#ended = end;
    this.#output.flush();
    this.#tell({ type: "end", reason, ...(code !== undefined && { code }) });
    this.#ws?.close(1000, "ended");
  }

  tick(now: number): void {
    this.#keepalive?.tick(now);
  }

  shutDown(): void {
    this.#ws?.close(1012, "this replica is shutting down");
  }

  #send(piece: Buffer): void {
    const { byteLength } = piece;
    this.#ws?.send(piece, (err) => {
      if (!err) this.#output.done(byteLength);
    });
  }

  #tell(frame: FromOwner): void {
    this.#ws?.send(JSON.stringify(frame));
  }
}

const receive = (terminal: AgentStream, data: RawData, isBinary: boolean): void => {
  if (isBinary) {
    terminal.write(bytesOf(data));
    return;
  }
  const frame = fromEntry.safeParse(jsonOf(data));
  if (!frame.success) return;
  if (frame.data.type === "consumed") terminal.consumed(frame.data.bytes);
  else terminal.resize(frame.data.cols, frame.data.rows);
};
