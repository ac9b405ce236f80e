import { createHash } from "node:crypto";
import { parseUuid, type Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { decodeProtectedHeader, type JWTPayload, SignJWT } from "jose";
import { derivedKeys, type RootSecrets, type VersionedKeys } from "../secrets/index.ts";
import { TokenError, verifyJwt } from "./jwt.ts";
import type { SigningKeys } from "./signingKeys.ts";

const ISSUER = "rootstock-replica";
const TYPE = "rootstock-replica+jwt";
const SECONDS = 30;
/** Replicas show a token more than once: checking a signature costs as much as all else of a short call. */
const MOST_VERIFIED = 256;

export interface ReplicaTokenOptions {
  readonly secrets: RootSecrets;
  readonly signingKeys: SigningKeys;
  /** This replica. */
  readonly instanceId: Uuid;
  readonly clock: Clock;
  /** Whether replicas may be there that read the former tokens only (HS256 under a shared key). */
  readonly olderReplicas: () => boolean;
}

/** What one replica shows another (design section 8): short-lived, and good at the replica that it names only. */
export class ReplicaTokens {
  readonly #options: ReplicaTokenOptions;
  readonly #formerKeys: VersionedKeys;
  /** What was verified and still holds, by a digest of the token. */
  readonly #verified = new Map<string, { readonly instanceId: Uuid; readonly until: number }>();

  constructor(options: ReplicaTokenOptions) {
    this.#options = options;
    this.#formerKeys = derivedKeys(options.secrets, "replica-to-replica");
  }

  /** A token for calls to the replica `audience`, good for 30 seconds. */
  issue(audience: Uuid): Promise<string> {
    const { clock, instanceId, signingKeys, olderReplicas } = this.#options;
    const now = Math.floor(clock.now() / 1000);
    const token = new SignJWT()
      .setIssuer(ISSUER)
      .setSubject(instanceId)
      .setAudience(audience)
      .setIssuedAt(now)
      .setExpirationTime(now + SECONDS);
    if (!olderReplicas()) return signingKeys.sign(token, TYPE);
    const [{ alg, kid, key }] = this.#formerKeys;
    return token.setProtectedHeader({ alg, typ: "JWT", kid }).sign(key);
  }

  /** The instance id of the replica that calls. Throws `TokenError`. */
  async verify(token: string): Promise<Uuid> {
    const digest = createHash("sha256").update(token).digest("base64");
    const known = this.#verified.get(digest);
    if (known && known.until > this.#options.clock.now()) return known.instanceId;
    const payload = await this.#payload(token);
    const instanceId = parseUuid(payload.sub ?? "");
    if (!instanceId) throw new TokenError("claim sub refused");
    if (this.#verified.size >= MOST_VERIFIED) this.#verified.clear();
    this.#verified.set(digest, { instanceId, until: (payload.exp ?? 0) * 1000 });
    return instanceId;
  }

  #payload(token: string): Promise<JWTPayload> {
    const { clock, instanceId, signingKeys } = this.#options;
    const expected = { issuer: ISSUER, audience: instanceId };
    if (algorithmOf(token) === "HS256") return verifyJwt(clock, this.#formerKeys, token, expected);
    return signingKeys.verify(clock, token, { ...expected, typ: TYPE });
  }
}

const algorithmOf = (token: string): string | undefined => {
  try {
    return decodeProtectedHeader(token).alg;
  } catch (cause) {
    throw new TokenError("malformed token", { cause });
  }
};
