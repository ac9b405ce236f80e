import { randomBytes } from "node:crypto";
import { MAX_FRAME_BYTES, signatureHeaders } from "@rootstock/protocol";
import { WebSocket } from "ws";
import { serveWorker } from "../worker.ts";

/**
 * Runtime brokers that do next to nothing: they dial, answer every request at once, and keep the account of messages.
 * A message's text is `sender:agent:number`; each sender's numbers to one agent must arrive in order, each id once.
 */

export interface Dialled {
  readonly brokerId: string;
  /** Standard base64; empty for a hub that asks for no signature. */
  readonly secretKey: string;
  /** Where it dials; when that fails, the next. */
  readonly urls: readonly string[];
}

export interface Account {
  readonly delivered: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
}

/** So that hours of messages leave nothing behind here: numbers alone are kept, and must come without a gap. */
let numbersOnly = false;
let gaps = 0;
/** When each text came first, if that is asked for. */
let arrivals: Map<string, bigint> | undefined;
const sockets = new Set<WebSocket>();
const seen = new Set<string>();
const texts = new Set<string>();
const last = new Map<string, number>();
const account = { delivered: 0, duplicates: 0, outOfOrder: 0 };
const awaited = new Map<string, (atNs: bigint) => void>();
let holding = false;
let held: (() => void) | undefined;
let online = 0;
let onOnline: () => void = () => {};

const take = (body: { message_id?: string; structured_message?: { msg?: string } }): void => {
  const text = body.structured_message?.msg ?? "";
  const id = body.message_id ?? "";
  awaited.get(text)?.(process.hrtime.bigint());
  awaited.delete(text);
  if (arrivals && !arrivals.has(text)) arrivals.set(text, process.hrtime.bigint());
  if (id !== "" && !numbersOnly && seen.has(id)) {
    account.duplicates += 1;
    return;
  }
  if (!numbersOnly) {
    seen.add(id);
    texts.add(text);
  }
  account.delivered += 1;
  const at = text.lastIndexOf(":");
  const pair = text.slice(0, at);
  const n = Number(text.slice(at + 1));
  const before = last.get(pair) ?? 0;
  if (n > before + 1) gaps += n - before - 1;
  if (n === before) account.duplicates += 1;
  else if (n < before) account.outOfOrder += 1;
  else last.set(pair, n);
};

/** A signed heartbeat, as each runtime broker sends twice a minute. Resolves with the status. */
const heartbeat = async (peer: Dialled): Promise<number> => {
  const path = `/api/v1/runtime-brokers/${peer.brokerId}/heartbeat`;
  const body = JSON.stringify({ status: "online", projects: [] });
  const headers = signatureHeaders({
    brokerId: peer.brokerId,
    secret: Buffer.from(peer.secretKey, "base64"),
    method: "POST",
    path,
    query: "",
    body: Buffer.from(body),
    now: Date.now(),
    nonce: randomBytes(16),
  });
  const response = await fetch(`${peer.urls[0]}${path}`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body,
  });
  await response.arrayBuffer();
  return response.status;
};

const CONNECT_PATH = "/api/v1/runtime-brokers/connect";
const REDIAL_MS = 15;

const dial = (peer: Dialled, attempt = 0): void => {
  const url = peer.urls[attempt % peer.urls.length] ?? "";
  const headers = peer.secretKey
    ? signatureHeaders({
        brokerId: peer.brokerId,
        secret: Buffer.from(peer.secretKey, "base64"),
        method: "GET",
        path: CONNECT_PATH,
        query: "",
        body: new Uint8Array(0),
        now: Date.now(),
        nonce: randomBytes(16),
      })
    : {};
  const ws = new WebSocket(`${url.replace(/^http/, "ws")}${CONNECT_PATH}`, { headers, perMessageDeflate: false });
  let welcome = false;
  sockets.add(ws);
  ws.on("open", () => {
    const rootstock = { concurrentRequests: 64, maxFrameBytes: MAX_FRAME_BYTES, remembersMessages: true };
    ws.send(JSON.stringify({ type: "connect", brokerId: peer.brokerId, version: "bench", rootstock }));
  });
  ws.on("message", (data) => {
    const frame = JSON.parse(data.toString());
    if (frame.type === "connected") {
      welcome = true;
      online += 1;
      onOnline();
    } else if (frame.type === "stream") {
      // A terminal that shows what is typed.
      ws.send(`{"type":"stream","streamId":"${frame.streamId}","data":"${frame.data}"}`);
    } else if (frame.type === "request") {
      const message = frame.path.endsWith("/message");
      if (message) take(JSON.parse(Buffer.from(frame.body, "base64").toString()));
      if (message && holding) {
        holding = false;
        held?.();
        return;
      }
      ws.send(`{"type":"response","requestId":"${frame.requestId}","statusCode":${message ? 200 : 202}}`);
    }
  });
  ws.on("error", () => {});
  ws.on("close", () => {
    sockets.delete(ws);
    if (welcome) {
      online -= 1;
      onOnline();
      dial(peer, attempt);
    } else setTimeout(() => dial(peer, attempt + 1), REDIAL_MS);
  });
};

serveWorker({
  /** Dials with all of them at once. Resolves with the milliseconds until all were online. */
  dial: (peers: readonly Dialled[]) =>
    new Promise<number>((resolve) => {
      const started = performance.now();
      const wanted = online + peers.length;
      onOnline = () => {
        if (online < wanted) return;
        onOnline = () => {};
        resolve(performance.now() - started);
      };
      for (const peer of peers) dial(peer);
    }),
  /** Resolves once some have gone and `wanted` are online again, with the time by the machine's monotonic clock. */
  returned: (wanted: number) =>
    new Promise<bigint>((resolve) => {
      let gone = false;
      onOnline = () => {
        gone ||= online < wanted;
        if (!gone || online < wanted) return;
        onOnline = () => {};
        resolve(process.hrtime.bigint());
      };
    }),
  account: (): Account => ({ ...account }),
  /** From now on only numbers are kept; `last` and `gaps` tell what came. */
  keepNumbersOnly: () => {
    numbersOnly = true;
    seen.clear();
    texts.clear();
  },
  /** The last number of each sender and agent (`sender:agent`), and how many before them never came. */
  numbers: () => ({ last, gaps }),
  /** Each of these sends a heartbeat, one after the other. Resolves with how many were refused. */
  heartbeats: async (peers: readonly Dialled[]): Promise<number> => {
    let refused = 0;
    for (const peer of peers) if ((await heartbeat(peer)) !== 200) refused += 1;
    return refused;
  },
  /** Of these texts, those that never arrived. */
  missing: (sent: readonly string[]) => sent.filter((text) => !texts.has(text)),
  /** From now on it is remembered when each text came first. */
  keepArrivals: () => {
    arrivals = new Map();
  },
  /** When each text came first, in nanoseconds of the machine's monotonic clock. */
  arrivals: () => arrivals,
  /** All sockets end without a word, and are dialled again. */
  drop: () => {
    for (const ws of sockets) ws.terminate();
  },
  /** Leaves the next message unanswered. Resolves when it has arrived. */
  hold: () =>
    new Promise<void>((resolve) => {
      holding = true;
      held = resolve;
    }),
  /** Resolves with the time at which the message with this text arrived, by the machine's monotonic clock. */
  arrival: (text: string) => new Promise<bigint>((resolve) => awaited.set(text, resolve)),
});
