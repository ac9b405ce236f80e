import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Clock } from "@rootstock/service";
import type { PeerAnswer } from "./postgresLink.ts";

/** A replica that can be reached accepts a connection at once; where packets are dropped, nobody says so. */
const CONNECT_MS = 3_000;

export interface PeerCall {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: object;
  /** From the first byte to the last, in milliseconds. */
  readonly timeoutMs: number;
  /** Gives it up. */
  readonly signal: AbortSignal;
}

/** No connection was made, so that nothing was sent: the call may go another way. */
export class PeerNotConnected extends Error {
  override readonly name = "PeerNotConnected";
}

/**
 * POSTs JSON to another replica, over a connection of its own: whether one was made decides what a failure means. Throws
 * `PeerNotConnected`, or an Error for a call whose fate is unknown.
 */
export const postToPeer = (clock: Clock, { url, headers, body, timeoutMs, signal }: PeerCall): Promise<PeerAnswer> =>
  new Promise((resolve, reject) => {
    const secure = url.protocol === "https:";
    const bytes = Buffer.from(JSON.stringify(body));
    let connected = false;
    const call = (secure ? httpsRequest : httpRequest)(url, {
      method: "POST",
      agent: false,
      headers: { ...headers, "content-type": "application/json", "content-length": String(bytes.byteLength) },
    });
    const timers = [
      clock.after(CONNECT_MS, () => connected || call.destroy(new Error("no connection in time"))),
      clock.after(timeoutMs, () => call.destroy(new Error("no answer in time"))),
    ];
    const giveUp = () => call.destroy(new Error("given up"));
    signal.addEventListener("abort", giveUp, { once: true });
    const settle = (work: () => void) => {
      signal.removeEventListener("abort", giveUp);
      for (const timer of timers) timer.cancel();
      work();
    };
    call.once("socket", (socket) =>
      socket.once(secure ? "secureConnect" : "connect", () => {
        connected = true;
        call.end(bytes);
      }),
    );
    call.on("error", (cause) =>
      settle(() => reject(connected ? cause : new PeerNotConnected("not connected", { cause }))),
    );
    call.once("response", (response) => {
      answerOf(response).then(
        (answer) => settle(() => resolve(answer)),
        (err: unknown) => settle(() => reject(err)),
      );
    });
  });

const answerOf = async (response: IncomingMessage): Promise<PeerAnswer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.from(chunk));
  return { status: response.statusCode ?? 0, body: parsed(Buffer.concat(chunks).toString("utf8")) };
};

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
