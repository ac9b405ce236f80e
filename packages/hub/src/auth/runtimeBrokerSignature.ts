import type { KeyObject } from "node:crypto";
import {
  HubError,
  parseUuid,
  SIGNATURE_HEADERS,
  SIGNATURE_MAX_SKEW_SECONDS,
  type SignedRequest,
  type Uuid,
  verifySignature,
} from "@rootstock/protocol";
import { Batcher, type Clock } from "@rootstock/service";
import { type Db, recordNonces, type UsedNonce } from "@rootstock/store";
import type { Credentials } from "./credentials.ts";
import type { RuntimeBrokerSecret, RuntimeBrokerSecrets } from "./runtimeBrokerSecrets.ts";

/** A caller that proved to be a runtime broker, and the key that it holds. */
export interface ProvenRuntimeBroker {
  readonly runtimeBrokerId: Uuid;
  readonly key: KeyObject;
  /** When the key proves nothing any more, in milliseconds since 1970, where it has been replaced. */
  readonly until?: number | undefined;
}

/** More than any sender uses (24 characters); a nonce is stored for ten minutes. */
const MAX_NONCE_CHARACTERS = 128;
const MAX_SIGNED_HEADERS = 32;

/**
 * Look-ups of secrets, and nonces: one at a time, so that ten thousand runtime brokers that dial at once take two
 * connections of the pool and not all. One call alone waits for nothing.
 */
const BATCH = { windowMs: 0, gapMs: 15, eagerItems: 16, maxItems: 200, concurrency: 1 };

const refuse = (reason: string): HubError => new HubError("broker_auth_failed", reason);

/** Verifies the signatures of runtime brokers (spec/01 2.3). */
export class RuntimeBrokerSignatures {
  readonly #clock: Clock;
  readonly #secrets: Batcher<Uuid, readonly RuntimeBrokerSecret[]>;
  readonly #nonces: Batcher<UsedNonce, boolean>;

  constructor(db: Db, secrets: RuntimeBrokerSecrets, clock: Clock) {
    this.#clock = clock;
    this.#secrets = new Batcher(clock, BATCH, async (ids) => {
      const found = await secrets.ofMany(db, [...new Set(ids)]);
      return ids.map((id) => found.get(id) ?? []);
    });
    this.#nonces = new Batcher(clock, BATCH, (used) => recordNonces(db, used));
  }

  /**
   * The runtime broker that signed this request, with a key that still proves something. Throws 401
   * `broker_auth_failed`. The nonce is recorded last and in the database: nobody without a key can fill the table, and a
   * request replayed at another replica is refused there too.
   */
  async verify(request: Credentials): Promise<ProvenRuntimeBroker> {
    const header = (name: string) => request.headers.get(name)?.trim() ?? "";
    const runtimeBrokerId = parseUuid(header(SIGNATURE_HEADERS.brokerId));
    const timestamp = header(SIGNATURE_HEADERS.timestamp);
    const nonce = header(SIGNATURE_HEADERS.nonce);
    const signature = header(SIGNATURE_HEADERS.signature);
    if (!runtimeBrokerId) throw refuse(`invalid ${SIGNATURE_HEADERS.brokerId} header`);
    if (!timestamp) throw refuse(`missing ${SIGNATURE_HEADERS.timestamp} header`);
    if (!signature) throw refuse(`missing ${SIGNATURE_HEADERS.signature} header`);
    if (!nonce) throw refuse(`missing ${SIGNATURE_HEADERS.nonce} header`);
    if (nonce.length > MAX_NONCE_CHARACTERS) throw refuse("nonce too long");
    if (!/^\d{1,12}$/.test(timestamp)) throw refuse("invalid timestamp");
    if (Math.abs(this.#clock.now() / 1000 - Number(timestamp)) > SIGNATURE_MAX_SKEW_SECONDS)
      throw refuse("timestamp outside of the allowed clock skew");
    const signed: SignedRequest = {
      method: request.method,
      path: request.path,
      query: request.query,
      timestamp,
      nonce,
      headers: signedHeaders(request),
      body: await request.body(),
    };
    const secrets = await this.#secrets.add(runtimeBrokerId);
    const proving = secrets.filter((s) => s.proves);
    if (proving.length === 0) throw refuse("unknown runtime broker");
    const match = proving.find((s) => verifySignature(s.key, signed, signature));
    if (!match) throw refuse("invalid signature");
    if (!(await this.#nonces.add({ runtimeBrokerId, nonce }))) throw refuse("nonce already used");
    return { runtimeBrokerId, key: match.key, until: match.until };
  }
}

const signedHeaders = (request: Credentials): readonly (readonly [string, string])[] => {
  const listed = request.headers.get(SIGNATURE_HEADERS.signedHeaders);
  if (!listed) return [];
  const names = listed
    .split(";")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  if (names.length > MAX_SIGNED_HEADERS) throw refuse("too many signed headers");
  return names.map((name) => {
    try {
      return [name, request.headers.get(name) ?? ""] as const;
    } catch {
      throw refuse(`invalid header name in ${SIGNATURE_HEADERS.signedHeaders}`);
    }
  });
};
