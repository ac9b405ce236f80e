import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Base, Service } from "@rootstock/service";
import { REPLICA_TOKEN_HEADER } from "../auth/index.ts";
import { jsonOf } from "./keepalive.ts";
import type { PeerAnswer } from "./peerCallFrames.ts";

export interface PeerPost {
  readonly url: URL;
  readonly token: string;
  readonly body: object;
  /** For a connection to be there, and for the whole answer to have come, in milliseconds. */
  readonly connectMs: number;
  readonly timeoutMs: number;
}

/** Calls of peers that take no socket for them: of the release before, or behind something that lets only HTTP pass. */
export class PeerPosts implements Service {
  readonly #base: Base;
  #agents: { readonly http: HttpAgent; readonly https: HttpsAgent } | undefined;

  constructor(base: Base) {
    this.#base = base;
  }

  async start(): Promise<void> {
    this.#agents ??= { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) };
  }

  async stop(): Promise<void> {
    this.#agents?.http.destroy();
    this.#agents?.https.destroy();
    this.#agents = undefined;
  }

  /** Throws for want of an answer. */
  async post({ url, token, body, connectMs, timeoutMs }: PeerPost): Promise<PeerAnswer> {
    const { clock } = this.#base;
    const secure = url.protocol === "https:";
    const bytes = Buffer.from(JSON.stringify(body));
    const call = (secure ? httpsRequest : httpRequest)(url, {
      method: "POST",
      agent: secure ? this.#agents?.https : this.#agents?.http,
      headers: {
        [REPLICA_TOKEN_HEADER]: token,
        "content-type": "application/json",
        "content-length": String(bytes.byteLength),
      },
    });
    let connected = false;
    call.once("socket", (socket) => {
      if (call.reusedSocket) connected = true;
      else socket.once(secure ? "secureConnect" : "connect", () => (connected = true));
    });
    const timers = [
      clock.after(connectMs, () => connected || call.destroy(new Error("no connection in time"))),
      clock.after(timeoutMs, () => call.destroy(new Error("no answer in time"))),
    ];
    try {
      const response = await responseTo(call, bytes);
      return { status: response.statusCode ?? 0, body: jsonOf(await bytesOfAnswer(response)) };
    } finally {
      for (const timer of timers) timer.cancel();
    }
  }
}

const responseTo = (call: ClientRequest, body: Buffer): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    call.on("error", reject);
    call.once("response", resolve);
    call.end(body);
  });

const bytesOfAnswer = (response: IncomingMessage): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => resolve(Buffer.concat(chunks)));
  });
