import type { KeyObject } from "node:crypto";
import type { Clock } from "@rootstock/service";
import { EncryptJWT, errors, type JWTPayload, jwtDecrypt } from "jose";
import { derivedKeys, type KeyPurpose, type RootSecrets } from "../secrets/index.ts";
import { TokenError } from "./jwt.ts";

const KEY_MANAGEMENT = "dir";
const ENCRYPTION = "A256GCM";
/** How far replicas' clocks may differ, in seconds. */
const LEEWAY_SECONDS = 60;

export interface SealedTokensOptions {
  readonly secrets: RootSecrets;
  /** Each purpose has keys of its own: what is sealed for one does not open for another. */
  readonly purpose: KeyPurpose;
  readonly clock: Clock;
}

/**
 * Short texts that whoever carries them can neither read nor change (JWE, `dir` with A256GCM): what a browser keeps for
 * the hub, so that the next request may come to any replica. Sealed under the first shared secret, opened under all.
 */
export class SealedTokens {
  readonly #clock: Clock;
  readonly #first: string;
  readonly #keys: ReadonlyMap<string, KeyObject>;

  constructor({ secrets, purpose, clock }: SealedTokensOptions) {
    const versions = derivedKeys(secrets, purpose);
    this.#clock = clock;
    this.#first = versions[0].kid;
    this.#keys = new Map(versions.map(({ kid, key }) => [kid, key]));
  }

  /** Seals claims for one audience and so many seconds. */
  seal(claims: JWTPayload, { audience, seconds }: { readonly audience: string; readonly seconds: number }) {
    const now = Math.floor(this.#clock.now() / 1000);
    return new EncryptJWT(claims)
      .setProtectedHeader({ alg: KEY_MANAGEMENT, enc: ENCRYPTION, kid: this.#first })
      .setAudience(audience)
      .setIssuedAt(now)
      .setExpirationTime(now + seconds)
      .encrypt(this.#key(this.#first));
  }

  /** The claims of a text that was sealed for this audience and is not over. Throws {@link TokenError}. */
  async open(token: string, audience: string): Promise<JWTPayload> {
    try {
      const { payload } = await jwtDecrypt(token, (header) => this.#key(header.kid ?? ""), {
        audience,
        clockTolerance: LEEWAY_SECONDS,
        currentDate: new Date(this.#clock.now()),
        keyManagementAlgorithms: [KEY_MANAGEMENT],
        contentEncryptionAlgorithms: [ENCRYPTION],
        requiredClaims: ["exp", "iat"],
      });
      return payload;
    } catch (cause) {
      if (cause instanceof TokenError) throw cause;
      throw new TokenError(cause instanceof errors.JWTExpired ? "expired" : "not sealed here", { cause });
    }
  }

  #key(kid: string): KeyObject {
    const key = this.#keys.get(kid);
    if (!key) throw new TokenError("sealed under a secret that is gone");
    return key;
  }
}
