import { HubError, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type Db, type Owner, ownerOf } from "@rootstock/store";
import { z } from "zod";
import { REPLICA_TOKEN_HEADER, type ReplicaTokens } from "../auth/index.ts";
import { type Registry, TunnelError, type TunnelRequest, type TunnelResponse } from "../control/index.ts";

/**
 * Calls to a runtime broker from any replica (design section 8): through the socket where it is held here, else through
 * the replica that holds it. The entry replica has authorised the caller; the token between replicas names the owner it
 * is for. An owner that has lost the socket meanwhile says so, and the new one is looked up.
 */

export const INTERNAL_TUNNEL_PATH = "/internal/v1/tunnel";

/** The most of an answer that is passed on: a log, or the output of a command. */
export const MAX_RELAYED_BYTES = 32 * 1_048_576;

/** A request as it travels between replicas. */
export const relayedRequest = z.object({
  runtimeBrokerId: z.string(),
  method: z.string(),
  path: z.string(),
  query: z.string().optional(),
  /** Base64. */
  body: z.string().optional(),
  timeoutMs: z.number().int().positive(),
});
export type RelayedRequest = z.infer<typeof relayedRequest>;

export const relayedResponse = z.object({
  status: z.number().int(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
});

/** A request of a caller, with the time it may take in milliseconds. */
export interface RelayRequest extends Omit<TunnelRequest, "timeoutMs" | "signal" | "priority"> {
  readonly timeoutMs: number;
}

export interface RelayDeps {
  readonly db: Db;
  readonly registry: Registry;
  readonly tokens: ReplicaTokens;
}

const MAX_RESOLUTIONS = 3;

export class Relay {
  readonly #base: Base;
  readonly #deps: RelayDeps;

  constructor(base: Base, deps: RelayDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /** Throws 503 when nobody reaches the runtime broker, 502 when it did not answer, 413 for what it cannot read. */
  async call(runtimeBrokerId: Uuid, request: RelayRequest): Promise<TunnelResponse> {
    for (let attempt = 1; ; attempt += 1) {
      const here = await this.callHere(runtimeBrokerId, request);
      if (here) return here;
      const owner = await ownerOf(this.#deps.db, runtimeBrokerId);
      const response = owner && (await this.#callPeer(owner, runtimeBrokerId, request));
      if (response) return response;
      if (attempt >= MAX_RESOLUTIONS) throw notConnected(runtimeBrokerId);
      // Affinity and sockets move together within milliseconds; a moment later one of the two is right.
      await this.#base.clock.sleep(50 * attempt);
    }
  }

  /** The same for a socket that this replica holds; undefined when it holds none. */
  async callHere(runtimeBrokerId: Uuid, request: RelayRequest): Promise<TunnelResponse | undefined> {
    const connection = this.#deps.registry.get(runtimeBrokerId);
    if (!connection?.isOpen) return undefined;
    try {
      return await connection.call(request);
    } catch (err) {
      if (!(err instanceof TunnelError)) throw err;
      if (err.kind === "not_sent") throw notConnected(runtimeBrokerId, err);
      if (err.kind === "too_large") throw new HubError("payload_too_large", err.message, { cause: err });
      throw new HubError("runtime_error", `the runtime broker gave no answer: ${err.message}`, { cause: err });
    }
  }

  /** Undefined when that replica is not the owner any more. */
  async #callPeer(owner: Owner, runtimeBrokerId: Uuid, request: RelayRequest): Promise<TunnelResponse | undefined> {
    if (!owner.internalUrl)
      throw new HubError("unavailable", "the replica that holds the runtime broker told no internal address", {
        retryAfter: 5,
        details: { instanceId: owner.instanceId },
      });
    const body: RelayedRequest = {
      runtimeBrokerId,
      method: request.method,
      path: request.path,
      timeoutMs: request.timeoutMs,
      ...(request.query && { query: request.query }),
      ...(request.body && { body: toBytes(request.body).toString("base64") }),
    };
    let response: Response;
    try {
      response = await fetch(new URL(INTERNAL_TUNNEL_PATH, owner.internalUrl), {
        method: "POST",
        headers: {
          "content-type": "application/json",
          [REPLICA_TOKEN_HEADER]: await this.#deps.tokens.issue(owner.instanceId),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(request.timeoutMs + 2_000),
      });
    } catch (err) {
      this.#base.log.warn({ err, owner: owner.instanceId }, "peer replica not reached");
      throw new HubError("unavailable", "the replica that holds the runtime broker could not be reached", {
        retryAfter: 2,
        cause: err,
      });
    }
    const answer: unknown = await response.json().catch(() => undefined);
    if (response.status === 409) return undefined;
    if (!response.ok) throw peerError(answer);
    const { status, headers, body: bytes } = relayedResponse.parse(answer);
    return { status, headers, body: Buffer.from(bytes, "base64") };
  }
}

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
