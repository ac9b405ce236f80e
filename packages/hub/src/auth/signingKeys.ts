import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import type { Clock } from "@rootstock/service";
import type { JWTPayload, SignJWT } from "jose";
import { derivedEd25519Key, type RootSecrets } from "../secrets/index.ts";
import { type ExpectedToken, type VerifyingKey, verifyJwt } from "./jwt.ts";

/** A public key as others read it (RFC 7517, RFC 8037). */
export interface PublicJwk {
  readonly kty: "OKP";
  readonly crv: "Ed25519";
  readonly x: string;
  readonly kid: string;
  readonly alg: "EdDSA";
  readonly use: "sig";
}

interface SigningKey extends VerifyingKey {
  readonly alg: "EdDSA";
  readonly privateKey: KeyObject;
  readonly jwk: PublicJwk;
}

const signingKey = (rootSecret: string): SigningKey => {
  const privateKey = derivedEd25519Key(rootSecret);
  const key = createPublicKey(privateKey);
  const { x = "" } = key.export({ format: "jwk" });
  // The key's thumbprint (RFC 7638): whoever has the key can work its name out.
  const kid = createHash("sha256")
    .update(JSON.stringify({ crv: "Ed25519", kty: "OKP", x }))
    .digest("base64url");
  return {
    kid,
    alg: "EdDSA",
    key,
    privateKey,
    jwk: { kty: "OKP", crv: "Ed25519", x, kid, alg: "EdDSA", use: "sig" },
  };
};

/**
 * Keys for tokens whose format clients leave to the hub: Ed25519, one for each shared secret. Derived, not stored: every
 * replica has them before it has seen the database, and they follow `ROOTSTOCK_SECRET` without a table of their own. One
 * key serves several kinds of token, which their header's `typ` keeps apart.
 */
export class SigningKeys {
  readonly #first: SigningKey;
  readonly #all: readonly SigningKey[];

  constructor([first, ...former]: RootSecrets) {
    this.#first = signingKey(first);
    this.#all = [this.#first, ...former.map(signingKey)];
  }

  /** Signs with the first secret's key; `typ` names the kind of token. */
  sign(token: SignJWT, typ: string): Promise<string> {
    const { kid, alg, privateKey } = this.#first;
    return token.setProtectedHeader({ alg, typ, kid }).sign(privateKey);
  }

  /** What such a token says, whichever secret's key signed it. Throws `TokenError`. */
  verify(clock: Clock, token: string, expected: ExpectedToken & { readonly typ: string }): Promise<JWTPayload> {
    return verifyJwt(clock, this.#all, token, expected);
  }

  /** The public keys, the one that signs first. A secret that only verifies yet is among them before it signs. */
  jwks(): { readonly keys: readonly PublicJwk[] } {
    return { keys: this.#all.map(({ jwk }) => jwk) };
  }
}
