import { createHash } from "node:crypto";
import type { Random } from "@rootstock/service";

const PREFIX = "scion_inv_";
const CODE_BYTES = 24;
const SHOWN_CHARACTERS = 18;

/** A new invite's code: shown once, and kept as its hash. */
export interface NewInviteCode {
  readonly code: string;
  readonly hash: Buffer;
  /** What may be shown of it later. */
  readonly prefix: string;
}

/** Makes a code (spec/03 6.6). */
export const newInviteCode = (random: Random): NewInviteCode => {
  const code = PREFIX + random.bytes(CODE_BYTES).toString("base64url");
  return { code, hash: sha256(code), prefix: code.slice(0, SHOWN_CHARACTERS) };
};

/** What a code is looked up by; undefined for a text that is none. */
export const inviteCodeHash = (code: string): Buffer | undefined =>
  /^scion_inv_[A-Za-z0-9_-]{32}$/.test(code) ? sha256(code) : undefined;

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();
