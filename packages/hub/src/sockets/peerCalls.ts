import type { Uuid } from "@rootstock/protocol";
import { type Base, Loop, type Service } from "@rootstock/service";
import { type Db, findReplica } from "@rootstock/store";
import type { ReplicaTokens } from "../auth/index.ts";
import { CALLS_TICK_MS, type PeerAnswer } from "./peerCallFrames.ts";
import { PeerPosts } from "./peerPost.ts";
import { dialPeer, NoPeerAnswer, PeerSocket } from "./peerSocket.ts";

/** A call to another replica. */
export interface PeerCall {
  /** Its name over the socket. */
  readonly name: string;
  /** Where the same is asked in HTTP. */
  readonly path: string;
  readonly body: object;
  /** For its answer, in milliseconds. */
  readonly timeoutMs: number;
}

export interface PeerCallsDeps {
  readonly db: Db;
  readonly tokens: Pick<ReplicaTokens, "issue">;
}

/** A replica that can be reached accepts a connection at once; where packets are dropped, nobody says so. */
const CONNECT_MS = 500;
/** One that has much to do may accept a socket later: nobody waits for it, and calls go over it from then on. */
const DIAL_MS = 10_000;
/** How long a replica that gave no answer is left alone. */
const LEFT_ALONE_MS = 30_000;
/** Well below the time for which a token is good. */
const TOKEN_REUSED_MS = 10_000;
/** Replicas come and go with every rollout. */
const MOST_REMEMBERED = 256;
const NOT_FOUND = 404;

interface Peer {
  readonly instanceId: Uuid;
  readonly url: URL | undefined;
  leftAloneUntil: number;
  /** Until then it takes no socket, and is asked in HTTP. */
  postsUntil: number;
  socket: PeerSocket | undefined;
  dialling: Promise<PeerSocket | undefined> | undefined;
  token: { readonly text: string; readonly until: number } | undefined;
}

/**
 * Calls to other replicas at their internal URLs (design section 8), over one socket to each that is dialled with the
 * first call and kept: an HTTP request costs both ends several times what a message does. Every call may come to nothing:
 * whoever makes one has another way, or finds out how it ended.
 */
export class PeerCalls implements Service {
  readonly #base: Base;
  readonly #deps: PeerCallsDeps;
  readonly #peers = new Map<Uuid, Peer>();
  readonly #posts: PeerPosts;
  readonly #loop: Loop;
  #started = false;
  #stopping = new AbortController();

  constructor(base: Base, deps: PeerCallsDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#posts = new PeerPosts(base);
    this.#loop = new Loop(base.log, "peer calls", async (signal) => {
      while (!signal.aborted) {
        await base.clock.sleep(CALLS_TICK_MS, signal);
        const now = base.clock.elapsed();
        for (const { socket } of this.#peers.values()) socket?.tick(now);
      }
    });
  }

  async start(): Promise<void> {
    this.#started = true;
    this.#stopping = new AbortController();
    await this.#posts.start();
    await this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#started = false;
    this.#stopping.abort();
    await this.#loop.stop();
    this.#forgetAll();
    await this.#posts.stop();
  }

  /**
   * Undefined when the replica is not reached, or its answer is not had: the call may have been carried out. One that does
   * not answer is left alone for a while, and so is one whose answer is {@link leaveAlone not to the point}.
   */
  async call(to: Uuid, call: PeerCall): Promise<PeerAnswer | undefined> {
    const peer = this.#peers.get(to) ?? (await this.#find(to));
    if (!peer.url || !this.#started || peer.leftAloneUntil > this.#base.clock.elapsed()) return undefined;
    try {
      const socket = peer.socket?.open ? peer.socket : await this.#socket(peer, peer.url);
      if (socket?.full) return undefined;
      if (socket) return await socket.ask(call.name, call.body, call.timeoutMs);
      const { body, timeoutMs } = call;
      const token = await this.#token(peer);
      const url = new URL(call.path, peer.url);
      return await this.#posts.post({ url, token, body, connectMs: CONNECT_MS, timeoutMs });
    } catch (err) {
      this.#base.log.info({ err, peer: to, call: call.name }, "peer replica gave no answer to a call");
      // A socket that was lost is dialled anew by the next call, and who is not there then is left alone.
      if (!(err instanceof NoPeerAnswer) || peer.socket?.open) this.leaveAlone(to);
      return undefined;
    }
  }

  /** Makes no call to it for a while: it would not answer otherwise in a moment. */
  leaveAlone(instanceId: Uuid): void {
    const peer = this.#peers.get(instanceId);
    if (peer) peer.leftAloneUntil = this.#base.clock.elapsed() + LEFT_ALONE_MS;
  }

  async #find(instanceId: Uuid): Promise<Peer> {
    const replica = await findReplica(this.#deps.db, instanceId);
    // Another call may have found it meanwhile.
    const known = this.#peers.get(instanceId);
    if (known) return known;
    const peer: Peer = {
      instanceId,
      // An instance never moves.
      url: replica?.internalUrl ? new URL(replica.internalUrl) : undefined,
      leftAloneUntil: 0,
      postsUntil: 0,
      socket: undefined,
      dialling: undefined,
      token: undefined,
    };
    if (this.#peers.size >= MOST_REMEMBERED) this.#forgetAll();
    if (replica) this.#peers.set(instanceId, peer);
    return peer;
  }

  #forgetAll(): void {
    const peers = [...this.#peers.values()];
    this.#peers.clear();
    for (const { socket } of peers) socket?.close();
  }

  /** One for all calls that wait for it. Undefined: the peer takes none. Throws when it is not reached. */
  async #socket(peer: Peer, url: URL): Promise<PeerSocket | undefined> {
    if (peer.postsUntil > this.#base.clock.elapsed()) return undefined;
    peer.dialling ??= this.#dial(peer, url).finally(() => {
      peer.dialling = undefined;
    });
    const { dialling } = peer;
    // Whoever has not waited for it to the end has not heard of its failure either.
    dialling.catch(() => {});
    const over = new AbortController();
    const late = this.#base.clock.sleep(CONNECT_MS, over.signal).then(() => {
      throw new Error("no socket in time");
    });
    late.catch(() => {});
    try {
      return await Promise.race([dialling, late]);
    } finally {
      over.abort();
    }
  }

  async #dial(peer: Peer, url: URL): Promise<PeerSocket | undefined> {
    const { clock, log } = this.#base;
    const { instanceId } = peer;
    const dialled = await dialPeer({
      url,
      token: await this.#token(peer),
      timeoutMs: DIAL_MS,
      signal: this.#stopping.signal,
    });
    if ("refused" in dialled) {
      // A replica of the release before knows no such path, and never will.
      const forGood = dialled.refused === NOT_FOUND;
      peer.postsUntil = forGood ? Number.POSITIVE_INFINITY : clock.elapsed() + LEFT_ALONE_MS;
      log.info({ peer: instanceId, status: dialled.refused }, "peer replica takes calls in HTTP only");
      return undefined;
    }
    const socket = new PeerSocket(clock, dialled, () => {
      if (peer.socket === socket) peer.socket = undefined;
    });
    if (!this.#started || this.#peers.get(instanceId) !== peer) {
      socket.close();
      throw new Error("forgotten while it was dialled");
    }
    peer.socket = socket;
    peer.leftAloneUntil = 0;
    return socket;
  }

  async #token(peer: Peer): Promise<string> {
    const now = this.#base.clock.elapsed();
    if (peer.token && peer.token.until > now) return peer.token.text;
    const text = await this.#deps.tokens.issue(peer.instanceId);
    peer.token = { text, until: now + TOKEN_REUSED_MS };
    return text;
  }
}
