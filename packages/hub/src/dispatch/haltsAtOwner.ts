import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Uuid } from "@rootstock/protocol";
import type { Base, Service } from "@rootstock/service";
import { type Db, findReplica } from "@rootstock/store";
import { z } from "zod";
import { REPLICA_TOKEN_HEADER, type ReplicaTokens } from "../auth/index.ts";
import { storedFailure } from "./operations/index.ts";

/** Where replicas have each other halt agents. */
export const INTERNAL_HALTS_PATH = "/internal/v1/halts";

/** A stop or suspend that another replica has accepted. */
export const haltRequest = z.object({
  id: z.uuid(),
  op: z.enum(["stop", "suspend"]),
  agentId: z.uuid(),
  agentSlug: z.string().min(1),
  projectId: z.uuid(),
  runtimeBrokerId: z.uuid(),
  createdBy: z.uuid().optional(),
  traceparent: z.string().optional(),
  stamp: z.string().optional(),
  /** The replica that accepted it. */
  acceptedBy: z.uuid(),
});
export type HaltRequest = z.infer<typeof haltRequest>;

/** How it ended at the owner. */
export const haltReply = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("done"),
    result: z.record(z.string(), z.unknown()),
    /** As clients are shown it. */
    shown: z.record(z.string(), z.unknown()).optional(),
  }),
  z.object({ kind: z.literal("failed"), failure: storedFailure }),
]);
export type HaltReply = z.infer<typeof haltReply>;

export interface HaltsAtOwnerDeps {
  readonly db: Db;
  readonly tokens: ReplicaTokens;
}

/** So long the owner's answer is waited for before the row is. An owner that halts for half as long says so, and tells of the end by a signal. */
export const OWNER_ANSWERS_WITHIN_MS = 2_000;
/** A replica that can be reached accepts a connection at once; where packets are dropped, nobody says so. */
const CONNECT_MS = 500;
/** How long a replica that gave no answer is left alone. */
const LEFT_ALONE_MS = 30_000;
/** Well below the time for which a token is good. */
const TOKEN_REUSED_MS = 10_000;
/** Replicas come and go with every rollout. */
const MOST_REMEMBERED = 256;

interface Peer {
  readonly instanceId: Uuid;
  readonly url: URL | undefined;
  leftAloneUntil: number;
  token: { readonly text: string; readonly until: number } | undefined;
}

/**
 * Has the replica that holds the socket halt an agent (design section 8): one call in the place of two signals and a
 * claim. The owner commits the intent before it acts, as it would for a caller of its own, so that whatever becomes of
 * the call, the row under the same id says what became of the halt.
 */
export class HaltsAtOwner implements Service {
  readonly #base: Base;
  readonly #deps: HaltsAtOwnerDeps;
  readonly #peers = new Map<Uuid, Peer>();
  #agents: { readonly http: HttpAgent; readonly https: HttpsAgent } | undefined;

  constructor(base: Base, deps: HaltsAtOwnerDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  async start(): Promise<void> {
    this.#agents ??= { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) };
  }

  async stop(): Promise<void> {
    this.#agents?.http.destroy();
    this.#agents?.https.destroy();
    this.#agents = undefined;
  }

  /** Undefined when the owner did not take it, or nobody knows: then the row is to be made, or found, and waited for. */
  async halt(owner: Uuid, request: HaltRequest): Promise<HaltReply | undefined> {
    const { clock, log } = this.#base;
    const peer = await this.#peer(owner);
    if (!peer.url || !this.#agents || peer.leftAloneUntil > clock.elapsed()) return undefined;
    try {
      const { status, body } = await this.#post(peer, peer.url, request);
      if (status === 200) return haltReply.parse(JSON.parse(body));
      // 409: it does not hold the socket any more. Anything else it will not answer otherwise in a moment either.
      if (status !== 409) this.#leaveAlone(peer);
      return undefined;
    } catch (err) {
      log.info({ err, owner, dispatchId: request.id }, "owner gave no answer to a halt; its row is waited for");
      this.#leaveAlone(peer);
      return undefined;
    }
  }

  #leaveAlone(peer: Peer): void {
    peer.leftAloneUntil = this.#base.clock.elapsed() + LEFT_ALONE_MS;
  }

  async #peer(instanceId: Uuid): Promise<Peer> {
    const known = this.#peers.get(instanceId);
    if (known) return known;
    // An instance never moves.
    const replica = await findReplica(this.#deps.db, instanceId);
    const url = replica?.internalUrl ? new URL(INTERNAL_HALTS_PATH, replica.internalUrl) : undefined;
    const peer: Peer = { instanceId, url, leftAloneUntil: 0, token: undefined };
    if (this.#peers.size >= MOST_REMEMBERED) this.#peers.clear();
    if (replica) this.#peers.set(instanceId, peer);
    return peer;
  }

  async #token(peer: Peer): Promise<string> {
    const now = this.#base.clock.elapsed();
    if (peer.token && peer.token.until > now) return peer.token.text;
    const text = await this.#deps.tokens.issue(peer.instanceId);
    peer.token = { text, until: now + TOKEN_REUSED_MS };
    return text;
  }

  async #post(peer: Peer, url: URL, request: HaltRequest): Promise<{ status: number; body: string }> {
    const { clock } = this.#base;
    const secure = url.protocol === "https:";
    const body = Buffer.from(JSON.stringify(request));
    const call = (secure ? httpsRequest : httpRequest)(url, {
      method: "POST",
      agent: secure ? this.#agents?.https : this.#agents?.http,
      headers: {
        [REPLICA_TOKEN_HEADER]: await this.#token(peer),
        "content-type": "application/json",
        "content-length": String(body.byteLength),
      },
    });
    let connected = false;
    call.once("socket", (socket) => {
      if (call.reusedSocket) connected = true;
      else socket.once(secure ? "secureConnect" : "connect", () => (connected = true));
    });
    const timers = [
      clock.after(CONNECT_MS, () => connected || call.destroy(new Error("no connection in time"))),
      clock.after(OWNER_ANSWERS_WITHIN_MS, () => call.destroy(new Error("no answer in time"))),
    ];
    try {
      const response = await responseTo(call, body);
      return { status: response.statusCode ?? 0, body: await textOf(response) };
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

const textOf = (response: IncomingMessage): Promise<string> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
  });
