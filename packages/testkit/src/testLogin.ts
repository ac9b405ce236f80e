import { createHash } from "node:crypto";
import { systemClock } from "@rootstock/service";
import { type JWTPayload, SignJWT } from "jose";
import { ApiReply } from "./api.ts";
import { TEST_SECRET } from "./replicas.ts";
import { noteAnswerHeaders, noteSecrets, noteSecretsIn } from "./runRecord.ts";

/** The key that the original derives for people's tokens (spec/03 section 4). */
const userKey = (secret: string): Buffer =>
  createHash("sha256").update(`scion-hub-signing-key:user_signing_key:${secret}`).digest();

/** A token of a person as another hub or bridge with the same secret makes it. Undefined leaves a claim out. */
export const foreignUserToken = (
  claims: Readonly<Record<string, unknown>>,
  secret: string = TEST_SECRET,
): Promise<string> => {
  const now = Math.floor(systemClock.now() / 1000);
  const payload: JWTPayload = { iss: "scion-hub", aud: "scion-hub-api", iat: now, nbf: now, exp: now + 900, ...claims };
  return new SignJWT(payload).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(userKey(secret));
};

/** Signs in as anybody at a replica with the test login. */
export const testLogin = async (
  replica: { readonly url: string },
  user: { readonly email: string; readonly role?: "admin" | "member" | "viewer"; readonly displayName?: string },
): Promise<ApiReply> => {
  const token = await foreignUserToken({ sub: "test", aud: "scion-test-login" });
  const response = await fetch(`${replica.url}/api/v1/auth/test-login`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(user),
  });
  const text = await response.text();
  noteSecrets(token);
  noteSecretsIn(text);
  noteAnswerHeaders(response.headers);
  return new ApiReply(response.status, response.headers, text);
};
