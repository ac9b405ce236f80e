import { createHash } from "node:crypto";
import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type AccessTokenRow, type Db, liveAccessToken, touchAccessToken, type UserStanding } from "@rootstock/store";
import { Fresh, type UserStandings } from "../people/index.ts";
import { TokenError } from "./jwt.ts";

/** What the bearer of a token is for; it begins with this. */
export const ACCESS_TOKEN_PREFIX = "scion_pat_";
const TOKEN_BYTES = 32;
const SHOWN_CHARACTERS = 22;
/** For so long a token that was revoked or ran out is still believed, in milliseconds. */
const FRESH_MS = 1_000;
/** The time of the last use is kept to the minute: a write at each call would cost more than the call. */
const TOUCH_AFTER_MS = 60_000;

/** What a token may be for (spec/03 1.3). */
export const ACCESS_TOKEN_SCOPES = [
  "project:read",
  "agent:create",
  "agent:read",
  "agent:list",
  "agent:start",
  "agent:stop",
  "agent:delete",
  "agent:message",
  "agent:attach",
  "agent:dispatch",
] as const;
export type AccessTokenScope = (typeof ACCESS_TOKEN_SCOPES)[number];

/** Stands for those of an agent's life: neither for its messages nor for its inside. */
const MANAGE: readonly AccessTokenScope[] = [
  "agent:create",
  "agent:read",
  "agent:list",
  "agent:start",
  "agent:stop",
  "agent:delete",
  "agent:dispatch",
];

const isScope = (text: string): text is AccessTokenScope => (ACCESS_TOKEN_SCOPES as readonly string[]).includes(text);

/** The scopes meant, each once, in the order given; undefined when one is unknown. */
export const parseScopes = (given: readonly string[]): readonly AccessTokenScope[] | undefined => {
  const scopes = new Set<AccessTokenScope>();
  for (const text of given) {
    if (text === "agent:manage") for (const scope of MANAGE) scopes.add(scope);
    else if (isScope(text)) scopes.add(text);
    else return undefined;
  }
  return [...scopes];
};

/** A new token: shown once, and kept as its hash. */
export const newAccessToken = (
  random: Base["random"],
): { readonly token: string; readonly hash: Buffer; readonly prefix: string } => {
  const token = ACCESS_TOKEN_PREFIX + random.bytes(TOKEN_BYTES).toString("base64url");
  return { token, hash: sha256(token), prefix: token.slice(0, SHOWN_CHARACTERS) };
};

/** What a token allows, whatever its owner may do beyond it. */
export interface TokenLimits {
  readonly tokenId: Uuid;
  readonly projectId: Uuid;
  readonly scopes: readonly string[];
}

export interface AccessTokensOptions {
  readonly db: Db;
  readonly standings: UserStandings;
}

/** Reads the tokens that people give to programs. */
export class AccessTokens {
  readonly #base: Base;
  readonly #options: AccessTokensOptions;
  readonly #rows: Fresh<string, AccessTokenRow | undefined>;
  /** When each was noted as used by this replica. */
  readonly #touched: Fresh<Uuid, void>;

  constructor(base: Base, options: AccessTokensOptions) {
    this.#base = base;
    this.#options = options;
    const { db } = options;
    this.#rows = new Fresh(base.clock, FRESH_MS, (hash) => liveAccessToken(db, Buffer.from(hash, "hex")));
    this.#touched = new Fresh(base.clock, TOUCH_AFTER_MS, (id) => touchAccessToken(db, id));
  }

  /** Whose token it is, what for, and until when, in milliseconds since 1970. Throws {@link TokenError}. */
  async userOf(
    token: string,
  ): Promise<{ readonly user: UserStanding; readonly limits: TokenLimits; readonly until: number }> {
    const row = await this.#rows.get(sha256(token).toString("hex"));
    if (!row || row.expires_at.getTime() <= this.#base.clock.now()) throw new TokenError("unknown, revoked or expired");
    const user = await this.#options.standings.find(row.user_id);
    if (user?.status !== "active") throw new TokenError("its owner is suspended or gone");
    this.#touched.get(row.id).catch((err: unknown) => this.#base.log.warn({ err }, "use of a token not noted"));
    const limits = { tokenId: row.id, projectId: row.project_id, scopes: row.scopes };
    return { user, limits, until: row.expires_at.getTime() };
  }

  /** To be called when a token was revoked: at once, instead of a moment later. */
  forgetAll(): void {
    this.#rows.forgetAll();
  }
}

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();
