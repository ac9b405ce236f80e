import { createHash, createSecretKey, type KeyObject, randomBytes, randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { signatureHeaders } from "@rootstock/protocol";
import { HttpLane } from "../httpLane.ts";
import { Samples } from "../samples.ts";
import { serveWorker } from "../worker.ts";

/**
 * Thousands of runtime brokers that only hang on a replica, as the unmodified ones do: they dial, say who they are, ping
 * every 30 s, answer pings, and send a signed heartbeat every 30 s. On bare sockets: a WebSocket library would cost the
 * machine more than the replica that is measured.
 */

export interface IdlePeer {
  readonly brokerId: string;
  /** Standard base64. */
  readonly secretKey: string;
}

export interface IdleSetup {
  readonly url: string;
  readonly peers: readonly IdlePeer[];
  /** The address to dial from: one address has too few ports. */
  readonly localAddress: string;
}

export interface Beaten {
  readonly sent: number;
  readonly refused: number;
  readonly p50: number;
  readonly p99: number;
}

const CONNECT_PATH = "/api/v1/runtime-brokers/connect";
const WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const PERIOD_MS = 30_000;
/** Connections for heartbeats: a load balancer in front of replicas keeps few and shares them. */
const LANES = 8;
/** How often is looked whose turn it is. */
const TICK_MS = 20;
const OPCODE = { text: 1, close: 8, ping: 9, pong: 10 } as const;
const BODY = Buffer.from('{"status":"online"}');

interface Peer {
  readonly id: string;
  readonly key: KeyObject;
  socket: Socket | undefined;
}

const peers: Peer[] = [];
let url = new URL("http://127.0.0.1");
let localAddress = "127.0.0.1";
let online = 0;
let redials = 0;
/** Dials and heartbeats that were refused, by the first line of the answer or the error of the socket. */
const refusals = new Map<string, number>();
let onOnline: () => void = () => {};
let beating: NodeJS.Timeout | undefined;
const beaten = { sent: 0, refused: 0, latency: new Samples() };

const signed = (peer: Peer, method: string, path: string, body: Uint8Array): Record<string, string> =>
  signatureHeaders({
    brokerId: peer.id,
    secret: peer.key,
    method,
    path,
    query: "",
    body,
    now: Date.now(),
    nonce: randomBytes(16),
  });

const lines = (headers: Readonly<Record<string, string>>): string =>
  Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("");

/** A frame as clients send them: masked, with a mask that changes nothing. Up to 125 bytes. */
const frame = (opcode: number, data: Uint8Array): Buffer =>
  Buffer.concat([Buffer.of(0x80 | opcode, 0x80 | data.byteLength, 0, 0, 0, 0), data]);

const count = (refusal: string): void => void refusals.set(refusal, (refusals.get(refusal) ?? 0) + 1);

const dial = (peer: Peer): void => {
  const socket = connect({ host: url.hostname, port: Number(url.port), localAddress, noDelay: true });
  const key = randomBytes(16).toString("base64");
  const accept = createHash("sha1")
    .update(key + WEBSOCKET_GUID)
    .digest("base64");
  let received: Buffer = Buffer.alloc(0);
  let open = false;
  let welcome = false;
  peer.socket = socket;
  socket.on("connect", () =>
    socket.write(
      `GET ${CONNECT_PATH} HTTP/1.1\r\nhost: ${url.host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n` +
        `sec-websocket-key: ${key}\r\nsec-websocket-version: 13\r\n` +
        `${lines(signed(peer, "GET", CONNECT_PATH, new Uint8Array(0)))}\r\n`,
    ),
  );
  socket.on("data", (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    if (!open) {
      const end = received.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = received.toString("latin1", 0, end);
      if (!head.startsWith("HTTP/1.1 101") || !head.includes(accept)) {
        count(head.split("\r\n", 1)[0] ?? "");
        socket.destroy();
        return;
      }
      open = true;
      received = received.subarray(end + 4);
      // The unmodified one says nothing of what it can do.
      socket.write(frame(OPCODE.text, Buffer.from(`{"type":"connect","brokerId":"${peer.id}","version":"0.1.0"}`)));
    }
    for (;;) {
      const short = (received[1] ?? 0) & 0x7f;
      const head = short === 126 ? 4 : 2;
      if (received.length < head) return;
      const length = short === 126 ? received.readUInt16BE(2) : short;
      if (received.length < head + length) return;
      const opcode = (received[0] ?? 0) & 0x0f;
      const data = received.subarray(head, head + length);
      received = received.subarray(head + length);
      if (opcode === OPCODE.ping) socket.write(frame(OPCODE.pong, data));
      else if (opcode === OPCODE.close) socket.destroy();
      else if (opcode === OPCODE.text && !welcome) {
        welcome = true;
        online += 1;
        onOnline();
      }
    }
  });
  socket.on("error", (err) => count(err.message));
  socket.on("close", () => {
    if (welcome) online -= 1;
    redials += 1;
    // At once after a session, else after a second (spec/01 3.5).
    setTimeout(() => dial(peer), welcome ? 0 : 1_000);
  });
};

const refuse = (answer: string): void => {
  beaten.refused += 1;
  count(`a heartbeat: ${answer}`);
};

/** Sends what is due at this turn of the period: to each its own moment, as machines that were started one by one. */
const beat = (idle: HttpLane[]): void => {
  let last = performance.now();
  const queue: Peer[] = [];
  const send = (lane: HttpLane): void => {
    const peer = queue.shift();
    if (!peer) {
      idle.push(lane);
      return;
    }
    const path = `/api/v1/runtime-brokers/${peer.id}/heartbeat`;
    const started = performance.now();
    beaten.sent += 1;
    lane
      .request("POST", path, BODY.toString(), lines(signed(peer, "POST", path, BODY)))
      .then(({ status, body }) => {
        if (status !== 200) refuse(`${status} ${body}`);
        beaten.latency.add(performance.now() - started);
      })
      .catch((err: unknown) => refuse(String(err)))
      .finally(() => send(lane));
  };
  beating = setInterval(() => {
    const now = performance.now();
    for (const [i, peer] of peers.entries()) {
      const offset = (i / peers.length) * PERIOD_MS;
      // Its moment lies between the last look and this one.
      if (Math.floor((last - offset) / PERIOD_MS) === Math.floor((now - offset) / PERIOD_MS)) continue;
      queue.push(peer);
      peer.socket?.write(frame(OPCODE.ping, new Uint8Array(0)));
    }
    last = now;
    // The one that has rested longest first: a connection that nothing comes over is closed by the replica.
    for (const lane of idle.splice(0, queue.length)) send(lane);
  }, TICK_MS);
};

serveWorker({
  /** Dials with all of them at once. Resolves with the milliseconds until all were online. */
  dial: (setup: IdleSetup) =>
    new Promise<number>((resolve) => {
      url = new URL(setup.url);
      localAddress = setup.localAddress;
      for (const { brokerId, secretKey } of setup.peers)
        peers.push({ id: brokerId, key: createSecretKey(Buffer.from(secretKey, "base64")), socket: undefined });
      const started = performance.now();
      onOnline = () => {
        if (online < peers.length) return;
        onOnline = () => {};
        resolve(performance.now() - started);
      };
      for (const peer of peers) dial(peer);
    }),
  /** From now on each sends a ping and a heartbeat every 30 s. */
  beat: async () => {
    const lanes = await Promise.all(Array.from({ length: LANES }, () => HttpLane.open(url.href, randomUUID())));
    beat(lanes);
  },
  beaten: (): Beaten => ({
    sent: beaten.sent,
    refused: beaten.refused,
    p50: beaten.latency.p50,
    p99: beaten.latency.p99,
  }),
  state: () => ({ online, redials, refusals }),
  stop: () => clearInterval(beating),
});
