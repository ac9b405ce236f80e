import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  actingFor,
  type Db,
  endSignIn,
  findUserStanding,
  insertSignIn,
  rotateSignIn,
  type SignInClient,
  type UserStanding,
  voidUserTokens,
} from "@rootstock/store";
import type { UserStandings } from "../people/index.ts";
import { TokenError } from "./jwt.ts";
import { refreshSeconds, type TokenPair, type UserClaims, type UserTokens } from "./userTokens.ts";

export interface SignInsOptions {
  readonly db: Db;
  readonly tokens: UserTokens;
  readonly standings: UserStandings;
  /** Called after a commit that the change log tells of. */
  readonly changed: () => void;
}

/** Two processes of one person that refresh at the same time are no theft, nor is an answer that was lost; in seconds. */
const GRACE_SECONDS = 60;

/** What people hold after signing in: made, refreshed, checked, and taken back. */
export class SignIns {
  readonly #base: Base;
  readonly #options: SignInsOptions;

  constructor(base: Base, options: SignInsOptions) {
    this.#base = base;
    this.#options = options;
  }

  /** Tokens for somebody who has just proved who they are. `within`: the transaction that says so, and the sign-in's id. */
  async begin(
    user: UserStanding,
    client: SignInClient,
    within: { readonly tx: Db; readonly signInId: Uuid } = {
      tx: this.#options.db,
      signInId: this.#base.random.uuid(),
    },
  ): Promise<TokenPair> {
    const { tx, signInId } = within;
    const lifetimeSeconds = refreshSeconds(client);
    await actingFor({ kind: "user", id: user.id, email: user.email }, () =>
      insertSignIn(tx, { id: signInId, userId: user.id, client, lifetimeSeconds }),
    );
    return this.#options.tokens.issue({ user, client, signInId, generation: 1 });
  }

  /**
   * New tokens for a refresh token, which is good once. One that comes back later ends the whole sign-in: either it or
   * its successor is in wrong hands. Throws {@link TokenError}.
   */
  async refresh(refreshToken: string): Promise<TokenPair> {
    const { db, tokens, standings, changed } = this.#options;
    const claims = await tokens.verify(refreshToken);
    const { userId, client, signInId, generation } = claims;
    if (claims.kind !== "refresh" || !signInId) throw new TokenError("not a refresh token");
    // Not from memory: what is issued now lasts.
    const user = activeUser(await findUserStanding(db, userId), claims);
    const lifetimeSeconds = refreshSeconds(client);
    const rotation = await byToken(claims, async () => {
      if (claims.legacy) await insertLegacy(db, claims, signInId, this.#base.clock.now());
      return rotateSignIn(db, { id: signInId, userId, generation, lifetimeSeconds, graceSeconds: GRACE_SECONDS });
    });
    if (rotation.kind === "rotated") return tokens.issue({ user, client, signInId, generation: rotation.generation });
    standings.forgetSignIn(signInId);
    changed();
    if (rotation.kind === "reused")
      this.#base.log.warn({ userId, signInId }, "refresh token used twice: sign-in ended");
    throw new TokenError("token revoked");
  }

  /** The user who shows an access token, as the row says now. Throws {@link TokenError}. */
  async userOf(token: string): Promise<{ readonly user: UserStanding; readonly claims: UserClaims }> {
    const claims = await this.#options.tokens.verify(token);
    if (claims.kind === "refresh") throw new TokenError("a refresh token is no access token");
    return { user: await this.check(claims), claims };
  }

  /** The user of a token that was verified, if it still counts. Throws {@link TokenError}. */
  async check(claims: Pick<UserClaims, "userId" | "tokenVersion" | "signInId" | "legacy">): Promise<UserStanding> {
    const { standings } = this.#options;
    const [remembered, live] = await Promise.all([
      standings.find(claims.userId),
      claims.signInId === undefined || claims.legacy ? true : standings.isLive(claims.signInId),
    ]);
    const user = activeUser(await this.#atLeast(claims, remembered), claims);
    if (!live) throw new TokenError("token revoked");
    return user;
  }

  /** The user as they stand now, where a token is newer than what is remembered: another replica has just made it. */
  async #atLeast(
    { userId, tokenVersion }: Pick<UserClaims, "userId" | "tokenVersion">,
    remembered: UserStanding | undefined,
  ): Promise<UserStanding | undefined> {
    const { standings } = this.#options;
    if (!remembered || remembered.tokenVersion >= tokenVersion) return remembered;
    standings.forget(userId);
    return standings.find(userId);
  }

  /** Ends the sign-in that a token names, at every replica; nothing happens for one that names none. */
  async end(token: string): Promise<void> {
    const { db, tokens } = this.#options;
    let claims: UserClaims;
    try {
      claims = await tokens.verify(token);
    } catch (err) {
      if (err instanceof TokenError) return;
      throw err;
    }
    const { signInId } = claims;
    if (!signInId) return;
    await byToken(claims, async () => {
      if (claims.legacy) await insertLegacy(db, claims, signInId, this.#base.clock.now());
      await this.endOne(signInId);
    });
  }

  /** Ends one sign-in, at every replica. */
  async endOne(signInId: Uuid): Promise<void> {
    await endSignIn(this.#options.db, signInId);
    this.#options.standings.forgetSignIn(signInId);
    this.#options.changed();
  }

  /** Signs the user out of everything that signing in has given them, everywhere. */
  async endAll(userId: Uuid): Promise<void> {
    const { db, standings, changed } = this.#options;
    await voidUserTokens(db, userId);
    standings.forget(userId);
    changed();
    this.#base.log.info({ userId }, "signed out everywhere");
  }
}

/** On behalf of the user whose token was shown where no credential is asked for. */
const byToken = <T>(claims: UserClaims, work: () => T): T =>
  actingFor(
    { kind: "user", id: claims.userId, credential: `${claims.kind}_token`, credentialId: claims.signInId },
    work,
  );

/** Makes a sign-in of a refresh token of the original, for as long as that token lasts. */
const insertLegacy = async (db: Db, claims: UserClaims, id: Uuid, now: number): Promise<void> => {
  const lifetimeSeconds = Math.max(0, (claims.expiresAt.getTime() - now) / 1000);
  await insertSignIn(db, { id, userId: claims.userId, client: claims.client, lifetimeSeconds });
};

const activeUser = (user: UserStanding | undefined, claims: Pick<UserClaims, "tokenVersion">): UserStanding => {
  if (!user) throw new TokenError("the account is gone");
  if (user.status !== "active") throw new TokenError("the account is suspended");
  if (user.tokenVersion !== claims.tokenVersion) throw new TokenError("token revoked");
  return user;
};
