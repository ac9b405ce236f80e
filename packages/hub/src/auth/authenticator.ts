import { HubError, SIGNATURE_HEADERS } from "@rootstock/protocol";
import type { Service } from "@rootstock/service";
import {
  type Db,
  ensureUser,
  findAgentStanding,
  findUserStanding,
  isDatabaseUnavailable,
  type UserStanding,
} from "@rootstock/store";
import type { UserStandings } from "../people/index.ts";
import { ACCESS_TOKEN_PREFIX, type AccessTokens } from "./accessTokens.ts";
import type { BrowserSessions } from "./browserSessions.ts";
import type { Credentials } from "./credentials.ts";
import { DEVELOPMENT_USER } from "./developmentUser.ts";
import { TokenError } from "./jwt.ts";
import { type AgentPrincipal, NOBODY, type Principal, type UserPrincipal } from "./principal.ts";
import { crossOriginRefusal, mayChange } from "./provenance.ts";
import type { ProxyLogin } from "./proxyLogin.ts";
import type { ReplicaTokens } from "./replicaTokens.ts";
import type { RuntimeBrokerSignatures } from "./runtimeBrokerSignature.ts";
import type { SignIns } from "./signIns.ts";
import { type AgentTokens, FixedToken } from "./tokens.ts";
import { looksLikeUserToken } from "./userTokens.ts";

/** Carries an agent's token; its tools send an `Authorization` for somebody else beside it (spec/03 1.6). */
export const AGENT_TOKEN_HEADER = "X-Scion-Agent-Token";
/** Carries what one replica shows another. Not `Authorization`: that is the client's, and may be passed on. */
export const REPLICA_TOKEN_HEADER = "X-Rootstock-Replica-Token";

const DEVELOPMENT_PREFIX = "scion_dev_";

export interface AuthenticatorOptions {
  readonly db: Db;
  readonly agentTokens: AgentTokens;
  readonly replicaTokens: ReplicaTokens;
  readonly signatures: RuntimeBrokerSignatures;
  readonly standings: Pick<UserStandings, "find">;
  readonly proxyLogin: ProxyLogin;
  readonly signIns: Pick<SignIns, "userOf">;
  readonly accessTokens: Pick<AccessTokens, "userOf">;
  readonly sessions: Pick<BrowserSessions, "userOf" | "provenance">;
  /** Undefined: development login is off. */
  readonly developmentToken: string | undefined;
  /** Undefined: only admins read the metrics. */
  readonly scrapeToken: string | undefined;
}

/** Tells who makes a request, from its credentials alone (spec/03 section 2). */
export class Authenticator implements Service {
  readonly #options: AuthenticatorOptions;
  readonly #developmentToken: FixedToken | undefined;
  readonly #scrapeToken: FixedToken | undefined;
  /** The development user as last read. */
  #developer: UserStanding | undefined;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#developmentToken = options.developmentToken ? new FixedToken(options.developmentToken) : undefined;
    this.#scrapeToken = options.scrapeToken ? new FixedToken(options.scrapeToken) : undefined;
  }

  /** Makes sure that the development user has a row for what it creates to point at. */
  async start(): Promise<void> {
    if (!this.#developmentToken) return;
    await ensureUser(this.#options.db, DEVELOPMENT_USER);
    this.#developer = await findUserStanding(this.#options.db, DEVELOPMENT_USER.id);
  }

  async stop(): Promise<void> {}

  /**
   * The caller. Nobody when there is no credential at all; throws 401 for one that proves nothing. An agent's token in
   * its own header comes first, then a runtime broker's signature, then a bearer, then what a proxy says (spec/03 2.2),
   * then a browser's cookie: an `Authorization` beside the first two is somebody else's and is not looked at, nor is one
   * that is no bearer. The proxy knows who sits there now; a cookie may be left of somebody else.
   */
  async authenticate(request: Credentials): Promise<Principal> {
    const { headers } = request;
    const replicaToken = headers.get(REPLICA_TOKEN_HEADER);
    if (replicaToken !== null) return this.#replica(replicaToken);
    const agentToken = headers.get(AGENT_TOKEN_HEADER);
    if (agentToken !== null) {
      return this.#agent(agentToken).catch((err: unknown) => {
        throw unauthorized(err, "invalid agent token");
      });
    }
    if (headers.get(SIGNATURE_HEADERS.brokerId) !== null) {
      const { runtimeBrokerId } = await this.#options.signatures.verify(request);
      return { kind: "runtimeBroker", id: runtimeBrokerId };
    }
    const authorization = headers.get("authorization");
    const bearer = authorization === null ? undefined : /^bearer +(.*)$/i.exec(authorization)?.[1]?.trim();
    if (bearer) return this.#bearer(bearer);
    return (await this.#proxied(request)) ?? (await this.#inBrowser(request)) ?? NOBODY;
  }

  /** The person whose browser carries a session. */
  async #inBrowser(request: Credentials): Promise<UserPrincipal | undefined> {
    const found = await this.#options.sessions.userOf(request);
    return found && { ...userPrincipal(found.user), session: found.session, proof: found.proof };
  }

  /** The person whom a proxy before the hub vouches for. */
  async #proxied(request: Credentials): Promise<UserPrincipal | undefined> {
    const { proxyLogin, standings, sessions } = this.#options;
    const userId = await proxyLogin.userOf(request);
    if (userId === undefined) return undefined;
    if (mayChange(request) && sessions.provenance(request.headers) === "cross-origin") throw crossOriginRefusal();
    const standing = await standings.find(userId);
    if (standing?.status === "active") return userPrincipal(standing);
    // Suspended or deleted since: asked anew, who comes back is signed in again.
    proxyLogin.forget(userId);
    throw standing
      ? new HubError("user_suspended", "this account is suspended")
      : new HubError("unauthorized", "this account is gone; try again");
  }

  async #replica(token: string): Promise<Principal> {
    try {
      return { kind: "replica", instanceId: await this.#options.replicaTokens.verify(token) };
    } catch (err) {
      throw unauthorized(err, "invalid replica token");
    }
  }

  async #bearer(token: string): Promise<Principal> {
    if (this.#scrapeToken?.matches(token)) return { kind: "scraper" };
    if (token.startsWith(DEVELOPMENT_PREFIX)) return this.#development(token);
    if (token.startsWith(ACCESS_TOKEN_PREFIX))
      return this.#program(token).catch((err: unknown) => {
        throw unauthorized(err, "invalid access token");
      });
    if (token.split(".").length !== 3) throw new HubError("unauthorized", "unrecognized token format");
    const principal = looksLikeUserToken(token) ? this.#user(token) : this.#agent(token);
    return principal.catch((err: unknown) => {
      throw unauthorized(err, "invalid access token");
    });
  }

  async #user(token: string): Promise<UserPrincipal> {
    const { user, claims } = await this.#options.signIns.userOf(token);
    return { ...userPrincipal(user), proof: { id: claims.signInId, until: claims.until } };
  }

  /** A program, with a token that its owner has given it. */
  async #program(token: string): Promise<UserPrincipal> {
    const { user, limits, until } = await this.#options.accessTokens.userOf(token);
    return { ...userPrincipal(user), limits, proof: { id: limits.tokenId, until } };
  }

  /**
   * Whoever shows the development token, as their row says: suspended or demoted they are that, as anybody is. The token is
   * known without the database, so that while that is away the row counts as it was read last.
   */
  async #development(token: string): Promise<UserPrincipal> {
    if (!this.#developmentToken) throw new HubError("unauthorized", "development authentication is not enabled");
    if (!this.#developmentToken.matches(token)) throw new HubError("unauthorized", "invalid development token");
    try {
      this.#developer = await this.#options.standings.find(DEVELOPMENT_USER.id);
    } catch (err) {
      if (!isDatabaseUnavailable(err)) throw err;
    }
    if (this.#developer?.status === "active") return userPrincipal(this.#developer);
    throw new HubError("unauthorized", `the development user is ${this.#developer ? "suspended" : "gone"}`);
  }

  /** The agent that a token names, if the agent is still there and has not been given newer tokens only. */
  async #agent(token: string): Promise<AgentPrincipal> {
    const claims = await this.#options.agentTokens.verify(token);
    const standing = await findAgentStanding(this.#options.db, claims.agentId);
    if (!standing || standing.deleted) throw new TokenError("agent deleted");
    if (claims.projectId !== undefined && claims.projectId !== standing.projectId)
      throw new TokenError("agent belongs to another project");
    // A newer one was issued by a reset that is not confirmed yet.
    if (claims.tokenVersion < standing.tokenVersion) throw new TokenError("token revoked");
    return {
      kind: "agent",
      id: claims.agentId,
      projectId: standing.projectId,
      scopes: claims.scopes,
      ancestry: claims.ancestry,
      tokenVersion: claims.tokenVersion,
      runId: claims.runId,
      proof: { until: claims.until },
    };
  }
}

/** 401 for a token that proves nothing; anything else that went wrong (the database) stays what it is. */
const unauthorized = (err: unknown, what: string): unknown =>
  err instanceof TokenError ? new HubError("unauthorized", `${what}: ${err.message}`, { cause: err }) : err;

/** A user as the row says. */
const userPrincipal = (standing: UserStanding): UserPrincipal => ({
  kind: "user",
  id: standing.id,
  email: standing.email,
  displayName: standing.displayName,
  role: standing.role,
});
