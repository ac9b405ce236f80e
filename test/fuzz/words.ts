import type { Values } from "./things.ts";

/** Words that fields take and that no schema tells, since they are read as more than texts. */
export const WORDS: Values = {
  expiresIn: ["24h", "2h"],
  since: ["2026-01-31T12:00:00Z"],
  until: ["2036-01-31T12:00:00Z"],
  label: ["team=a"],
  metadata_mode: ["block", "passthrough", "assign"],
  scopes: ["agent:read", "agent:list"],
  callbackUrl: ["http://127.0.0.1:4711/callback"],
  redirectUri: ["http://127.0.0.1:4711/callback"],
  state: ["a-state"],
  grantType: ["authorization_code"],
  clientType: ["cli", "web", "device"],
  provider: ["google", "github", "oidc"],
  memberType: ["user"],
  sub: [">", "project.*.updated"],
  msg: ["hello"],
  resourceType: ["project", "agent"],
};
