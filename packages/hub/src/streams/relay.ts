import { HubError, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type Db, type Owner, ownerOf } from "@rootstock/store";
import { z } from "zod";
import { REPLICA_TOKEN_HEADER, type ReplicaTokens } from "../auth/index.ts";
import { type Registry, TunnelError, type TunnelRequest, type TunnelResponse } from "../control/index.ts";
import { acceptedTraceparent } from "../telemetry/index.ts";
import type { Detours } from "./detours.ts";
import { type IsOwner, ownerMoved } from "./ownerMoved.ts";
import { PeerNotConnected, postToPeer } from "./peerCall.ts";
import { NO_ANSWER, type PeerAnswer } from "./postgresLink.ts";
import { INTERNAL_TUNNEL_PATH, type RelayedRequest, type RelayedResponse, relayedResponse } from "./relayedCall.ts";

/**
 * Calls to a runtime broker from any replica (design section 8): through the socket where it is held here, else through
 * the replica that holds it. The entry replica has authorised the caller; the token between replicas names the owner it
 * is for. An owner that has lost the socket meanwhile says so, and the new one is looked up.
 */

/** A request of a caller, with the time it may take in milliseconds. */
export interface RelayRequest extends Omit<TunnelRequest, "timeoutMs" | "signal" | "priority"> {
  readonly timeoutMs: number;
}

export interface RelayDeps {
  readonly db: Db;
  readonly isOwner: IsOwner;
  readonly registry: Registry;
  readonly tokens: ReplicaTokens;
  /** Whether replicas are called at their internal URLs. */
  readonly direct: boolean;
  /** The way to replicas that cannot be reached so; undefined: there is none. */
  readonly detour: CallLink | undefined;
  readonly detours: Detours;
}

/** Has another replica run a call; `unreachable`: it has certainly not. */
export interface CallLink {
  call(owner: Owner, request: RelayedRequest): Promise<PeerAnswer | "unreachable">;
}

const MAX_RESOLUTIONS = 5;
const FIRST_WAIT_MS = 50;
/** The owner that cannot be reached is asked by the detour from this attempt on: it may have died just now. */
const DETOUR_FROM = 3;

export class Relay {
  readonly #base: Base;
  readonly #deps: RelayDeps;

  constructor(base: Base, deps: RelayDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /**
   * Throws 503 when nobody reaches the runtime broker: then the call was not carried out. 502 when there was no answer,
   * and nobody knows whether it was; one that changes nothing is asked again where the runtime broker is then. 413 for
   * what it cannot read.
   */
  async call(runtimeBrokerId: Uuid, request: RelayRequest): Promise<TunnelResponse> {
    const unreached = new Set<Uuid>();
    const { clock } = this.#base;
    const until = clock.elapsed() + request.timeoutMs;
    for (let attempt = 0; attempt < MAX_RESOLUTIONS && clock.elapsed() < until; attempt += 1) {
      const left = { ...request, timeoutMs: Math.ceil(until - clock.elapsed()) };
      const here = await this.callHere(runtimeBrokerId, left);
      if (here) return here;
      const owner = await ownerOf(this.#deps.db, runtimeBrokerId);
      const response = owner && (await this.#callPeer(owner, toRelayed(runtimeBrokerId, left), unreached, attempt));
      if (response) return response;
      // Affinity and sockets move together within milliseconds; a moment later one of the two is right.
      await clock.sleep(FIRST_WAIT_MS * 2 ** attempt);
    }
    throw unreached.size > 0 ? unreachable() : notConnected(runtimeBrokerId);
  }

  /** The same for a socket that this replica holds; undefined when it holds none, or lost it before the call's turn came. */
  async callHere(runtimeBrokerId: Uuid, request: RelayRequest): Promise<TunnelResponse | undefined> {
    const connection = this.#deps.registry.get(runtimeBrokerId);
    if (!connection?.isOpen) return undefined;
    try {
      return await connection.call(request);
    } catch (err) {
      if (!(err instanceof TunnelError)) throw err;
      const mayGoOn = err.kind === "not_sent" || (err.kind === "lost" && changesNothing(request));
      if (mayGoOn && !connection.isOpen) return undefined;
      if (err.kind === "not_sent") throw notConnected(runtimeBrokerId, err);
      if (err.kind === "too_large") throw new HubError("payload_too_large", err.message, { cause: err });
      throw new HubError("runtime_error", `the runtime broker gave no answer: ${err.message}`, { cause: err });
    }
  }

  /** Runs a call for another replica. Throws as `call` does, and 409 when this one does not hold the socket. */
  async serve(request: RelayedRequest): Promise<RelayedResponse> {
    const { runtimeBrokerId, method, path, timeoutMs, query, body, traceparent } = request;
    const response = await this.callHere(runtimeBrokerId, {
      method,
      path,
      timeoutMs,
      traceparent: acceptedTraceparent(traceparent),
      ...(query && { query }),
      ...(body && { body: Buffer.from(body, "base64") }),
    });
    if (!response) throw new HubError("conflict", "this replica does not hold the runtime broker's socket");
    return { status: response.status, headers: response.headers, body: response.body.toString("base64") };
  }

  /** Undefined when that replica is not the owner any more, or could not be asked. */
  async #callPeer(
    owner: Owner,
    request: RelayedRequest,
    unreached: Set<Uuid>,
    attempt: number,
  ): Promise<TunnelResponse | undefined> {
    const { direct, detour, detours } = this.#deps;
    const goesDirectly = direct && owner.internalUrl !== null;
    if (goesDirectly && !unreached.has(owner.instanceId) && !(detour && detours.has(owner.instanceId))) {
      const answer = await this.#post(owner, owner.internalUrl, request);
      if (answer) return responseOf(answer, request);
      unreached.add(owner.instanceId);
      return undefined;
    }
    unreached.add(owner.instanceId);
    if (!detour || (goesDirectly && !detours.has(owner.instanceId) && attempt < DETOUR_FROM)) return undefined;
    const answer = await detour.call(owner, request);
    if (answer === "unreachable") throw unreachable();
    if (goesDirectly) detours.mark(owner.instanceId);
    return responseOf(answer, request);
  }

  /** Undefined when the replica could not be reached and has certainly not been asked. */
  async #post(owner: Owner, internalUrl: string, request: RelayedRequest): Promise<PeerAnswer | undefined> {
    const { clock } = this.#base;
    const over = new AbortController();
    const isOwner = () => this.#deps.isOwner(owner, request.runtimeBrokerId);
    try {
      const answer = postToPeer(clock, {
        url: new URL(INTERNAL_TUNNEL_PATH, internalUrl),
        headers: { [REPLICA_TOKEN_HEADER]: await this.#deps.tokens.issue(owner.instanceId) },
        body: request,
        timeoutMs: request.timeoutMs + 2_000,
        signal: over.signal,
      });
      // Given up, it fails with nobody there to hear of it.
      answer.catch(() => {});
      return (await Promise.race([answer, ownerMoved(clock, isOwner, over.signal)])) ?? NO_ANSWER;
    } catch (err) {
      this.#base.log.warn({ err, owner: owner.instanceId }, "peer replica not reached");
      return err instanceof PeerNotConnected ? undefined : NO_ANSWER;
    } finally {
      over.abort();
    }
  }
}

/** Nobody is there to do it twice. */
const changesNothing = ({ method }: { readonly method: string }): boolean => method === "GET";

/** What a peer answered. Undefined: it is not the owner any more, or what was lost with it may be asked again. */
const responseOf = ({ status, body }: PeerAnswer, request: RelayedRequest): TunnelResponse | undefined => {
  if (status === 409) return undefined;
  if (status === NO_ANSWER.status) {
    if (changesNothing(request)) return undefined;
    throw new HubError(
      "runtime_error",
      "the replica that holds the runtime broker gave no answer; it may have been done",
    );
  }
  if (status < 200 || status >= 300) throw peerError(body);
  const parsed = relayedResponse.parse(body);
  return { status: parsed.status, headers: parsed.headers, body: Buffer.from(parsed.body, "base64") };
};

const toRelayed = (runtimeBrokerId: Uuid, request: RelayRequest): RelayedRequest => ({
  runtimeBrokerId,
  method: request.method,
  path: request.path,
  timeoutMs: request.timeoutMs,
  ...(request.traceparent && { traceparent: request.traceparent }),
  ...(request.query && { query: request.query }),
  ...(request.body && { body: toBytes(request.body).toString("base64") }),
});

const unreachable = (): HubError =>
  new HubError("unavailable", "the replica that holds the runtime broker could not be reached", { retryAfter: 2 });

const toBytes = (body: Uint8Array | object): Buffer =>
  body instanceof Uint8Array ? Buffer.from(body) : Buffer.from(JSON.stringify(body));

const notConnected = (runtimeBrokerId: Uuid, cause?: unknown): HubError =>
  new HubError("runtime_broker_unavailable", "the runtime broker is not connected", {
    details: { requestedBrokerId: runtimeBrokerId, availableBrokers: null },
    retryAfter: 5,
    cause,
  });

const peerFailure = z.object({
  error: z.object({
    code: z.enum(["runtime_error", "runtime_broker_unavailable", "payload_too_large", "unavailable"]),
    message: z.string(),
  }),
});

/** What the other replica refused, in its own words where they are meant for callers. */
const peerError = (answer: unknown): HubError => {
  const parsed = peerFailure.safeParse(answer);
  return parsed.success
    ? new HubError(parsed.data.error.code, parsed.data.error.message)
    : new HubError("unavailable", "the replica that holds the runtime broker refused the call", { retryAfter: 2 });
};
