import { SIGNATURE_HEADERS } from "@rootstock/protocol";
import type { AuditActor } from "@rootstock/store";
import { ACCESS_TOKEN_PREFIX } from "./accessTokens.ts";
import { AGENT_TOKEN_HEADER } from "./authenticator.ts";
import type { Principal } from "./principal.ts";

/** From where a request came, and by which name the logs know it. */
export interface RequestOrigin {
  readonly headers: Headers;
  /** Of the client, as trusted proxies tell it. */
  readonly address: string;
  readonly requestId: string | undefined;
}

/** Who acts, in the words of the audit log. */
export const auditActor = (principal: Principal, origin: RequestOrigin): AuditActor => ({
  kind: principal.kind,
  ...(principal.kind === "replica" ? { id: principal.instanceId } : "id" in principal && { id: principal.id }),
  ...(principal.kind === "user" && { email: principal.email }),
  ...credentialOf(principal, origin.headers),
  address: origin.address,
  userAgent: origin.headers.get("user-agent") ?? undefined,
  requestId: origin.requestId,
});

/** Which credential has proved the principal: in the order in which they are looked at (spec/03 2.2). Never itself. */
const credentialOf = (principal: Principal, headers: Headers): Pick<AuditActor, "credential" | "credentialId"> => {
  switch (principal.kind) {
    case "nobody":
      return {};
    case "user":
      if (principal.limits) return { credential: "access_token", credentialId: principal.limits.tokenId };
      if (principal.session) return { credential: "session", credentialId: principal.session.signInId };
      return userCredential(headers);
    case "agent":
      return { credential: headers.has(AGENT_TOKEN_HEADER) ? "agent_token" : "agent_bearer" };
    case "runtimeBroker":
      return { credential: "signature", credentialId: headers.get(SIGNATURE_HEADERS.brokerId) ?? undefined };
    default:
      return { credential: "token" };
  }
};

const userCredential = (headers: Headers): Pick<AuditActor, "credential" | "credentialId"> => {
  const bearer = /^bearer +(\S+)/i.exec(headers.get("authorization") ?? "")?.[1];
  if (bearer?.startsWith("scion_dev_")) return { credential: "development_token" };
  if (bearer?.startsWith(ACCESS_TOKEN_PREFIX)) return { credential: "access_token" };
  if (bearer) return { credential: "user_token", credentialId: signInOf(bearer) };
  return { credential: "proxy" };
};

/** The sign-in that a token names, which was verified before. */
const signInOf = (token: string): string | undefined => {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    const sid = typeof payload === "object" && payload !== null && "sid" in payload ? payload.sid : undefined;
    return typeof sid === "string" ? sid : undefined;
  } catch {
    return undefined;
  }
};
