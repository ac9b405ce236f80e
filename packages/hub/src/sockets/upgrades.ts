import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HubError } from "@rootstock/protocol";
import { type WebSocket, WebSocketServer } from "ws";
import type { Credentials, Principal } from "../auth/index.ts";
import { credentialsOf, refuseSocket } from "../control/index.ts";

/** Counts an upgrade as the call that it is: once, however often it is looked at again. Throws 429. */
export type Met = (principal: Principal, credentials: Credentials) => void;

/** Counts what is held open, until what it gives is called. Throws 429. */
export type Hold = (principal: Principal) => Promise<() => void>;

/** Is told who may not have a WebSocket, and why. */
export type Refused = (principal: Principal, credentials: Credentials, refusal: HubError) => void;

/** 403, and `refused` told of it. */
export const refusing = (
  refused: Refused,
  principal: Principal,
  credentials: Credentials,
  reason: string,
): HubError => {
  const refusal = new HubError("forbidden", reason);
  refused(principal, credentials, refusal);
  return refusal;
};

/** What is behind an upgrade, made ready before it is answered: a refusal is then an HTTP answer like any other. */
export interface Prepared {
  begin(ws: WebSocket): void;
  /** The client went away before the upgrade was done. */
  abandon(): void;
}

/** Answers upgrades to WebSockets of one kind. */
export class Upgrades {
  readonly #wss: WebSocketServer;
  readonly #toError: (err: unknown) => HubError;

  constructor(options: { readonly maxPayload: number; readonly toError: (err: unknown) => HubError }) {
    this.#toError = options.toError;
    this.#wss = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: options.maxPayload,
    });
  }

  /** Never throws; what `prepare` throws is answered in HTTP. */
  take(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    prepare: (credentials: Credentials) => Promise<Prepared>,
  ): void {
    // Until the socket is handed over, nobody else listens: an unheard error would end the process.
    const onError = () => socket.destroy();
    socket.on("error", onError);
    prepare(credentialsOf(request)).then(
      (prepared) => {
        let begun = false;
        if (!socket.destroyed) {
          socket.off("error", onError);
          this.#wss.handleUpgrade(request, socket, head, (ws) => {
            begun = true;
            prepared.begin(ws);
          });
        }
        if (!begun) prepared.abandon();
      },
      (err: unknown) => refuseSocket(socket, this.#toError(err)),
    );
  }
}
