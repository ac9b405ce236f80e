import { createHash, hkdfSync } from "node:crypto";

/** What a key derived from `ROOTSTOCK_SECRET` is for. Each purpose has a key of its own, so that none opens another's. */
export type KeyPurpose = "runtime-broker-secret" | "agent-kept-value" | "idempotency-answer" | "replica-to-replica";

const KEY_BYTES = 32;

/** The 32-byte key for one purpose: HKDF-SHA256 of the shared secret. The same on every replica. */
export const deriveKey = (rootSecret: string, purpose: KeyPurpose): Buffer =>
  Buffer.from(hkdfSync("sha256", rootSecret, "rootstock/v1", `rootstock/${purpose}`, KEY_BYTES));

/**
 * The key that signs agents' tokens (spec/03 section 4). Not the scheme of the other keys: tokens issued by an original
 * hub with the same shared secret must stay valid.
 */
export const agentSigningKey = (rootSecret: string): Buffer =>
  createHash("sha256").update(`scion-hub-signing-key:agent_signing_key:${rootSecret}`).digest();
