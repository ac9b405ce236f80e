import { HubError, parseUuid, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { actingFor, type Db, insertSignIn, prolongSignIn, type UserStanding } from "@rootstock/store";
import type { JWTPayload } from "jose";
import type { RootSecrets } from "../secrets/index.ts";
import { clearedCookie, cookieName, type FoundCookie, findCookie, setCookie } from "./cookies.ts";
import type { Credentials } from "./credentials.ts";
import { endOf, TokenError } from "./jwt.ts";
import type { BrowserSession, Proof } from "./principal.ts";
import { crossOriginRefusal, mayChange, provenanceOf } from "./provenance.ts";
import { SealedTokens } from "./sealedTokens.ts";
import type { SignIns } from "./signIns.ts";

/** Somebody whose browser is signed in. */
interface InBrowser {
  readonly user: UserStanding;
  readonly session: BrowserSession;
  readonly proof: Proof;
}

export const SESSION_COOKIE = "rootstock_session";
const COOKIE = SESSION_COOKIE;
/** A session ends when nothing has come from the browser for so long (spec/03 1.5). */
const SESSION_SECONDS = 86_400;
/** A cookie older than this is replaced by the next answer; each replacement is a write. */
const RENEW_AFTER_SECONDS = 3_600;
/** The row outlives the cookie, whatever the clocks say. */
const ROW_SECONDS = SESSION_SECONDS + 3_600;

export interface BrowserSessionsOptions {
  readonly db: Db;
  readonly secrets: RootSecrets;
  readonly signIns: Pick<SignIns, "check" | "endOne">;
  /** Where browsers reach the hub, if it is configured. */
  readonly publicUrl: string | undefined;
}

/** 401: the cookie names a session that is over, so that it had better go. */
export class SessionEnded extends HubError {
  /** The name of the cookie. */
  readonly cookie: string;

  constructor(cookie: string, html: boolean, cause: unknown) {
    super(html ? "session_expired" : "unauthorized", "the session has ended: sign in again", { cause });
    this.cookie = cookie;
  }
}

/**
 * People signed in by a browser (spec/03 1.5). The cookie names the user, the version of what the user holds, and the
 * sign-in; whether they still count is asked of the rows at each request, so that who is suspended, has signed out or has
 * signed out everywhere is out at every replica.
 */
export class BrowserSessions {
  readonly #base: Base;
  readonly #options: BrowserSessionsOptions;
  readonly #sealed: SealedTokens;
  readonly #publicHost: string | undefined;

  constructor(base: Base, options: BrowserSessionsOptions) {
    this.#base = base;
    this.#options = options;
    this.#sealed = new SealedTokens({ secrets: options.secrets, purpose: "browser-session", clock: base.clock });
    this.#publicHost = options.publicUrl === undefined ? undefined : new URL(options.publicUrl).host;
  }

  /** A session of somebody who has just proved who they are: its `Set-Cookie`. `origin`: where the browser is. */
  async begin(user: Pick<UserStanding, "id" | "email" | "tokenVersion">, origin: string): Promise<string> {
    const signInId = this.#base.random.uuid();
    const row = { id: signInId, userId: user.id, client: "web", lifetimeSeconds: ROW_SECONDS } as const;
    await actingFor({ kind: "user", id: user.id, email: user.email }, () => insertSignIn(this.#options.db, row));
    return this.#cookie(user, signInId, cookieName(COOKIE, isSecure(origin)));
  }

  /**
   * Who is signed in by a request's cookie; undefined where there is none. Throws {@link SessionEnded}, and 403 for a call
   * that may change something and does not come from a page of this hub.
   */
  async userOf(request: Pick<Credentials, "method" | "headers">): Promise<InBrowser | undefined> {
    const cookie = findCookie(request.headers, COOKIE);
    if (!cookie) return undefined;
    if (mayChange(request) && this.provenance(request.headers) !== "same-origin") throw crossOriginRefusal();
    try {
      return await this.#session(cookie);
    } catch (err) {
      if (!(err instanceof TokenError)) throw err;
      throw new SessionEnded(cookie.name, request.headers.get("accept")?.includes("text/html") === true, err);
    }
  }

  /** Which page made the browser send a request. */
  provenance(headers: Headers): ReturnType<typeof provenanceOf> {
    return provenanceOf(headers, this.#publicHost);
  }

  /** The `Set-Cookie` with which a session goes on for another day. */
  async renew(user: { readonly id: Uuid }, { signInId, tokenVersion, cookie }: BrowserSession): Promise<string> {
    await prolongSignIn(this.#options.db, signInId, ROW_SECONDS);
    return this.#cookie({ id: user.id, tokenVersion }, signInId, cookie);
  }

  /** Ends the session of a request's cookie at every replica. The `Set-Cookie` that takes it away; undefined: none there. */
  async end(request: Pick<Credentials, "method" | "headers">): Promise<string | undefined> {
    const cookie = findCookie(request.headers, COOKIE);
    if (!cookie) return undefined;
    try {
      const found = await this.userOf(request);
      if (found) await this.#endFound(found.user, found.session);
    } catch (err) {
      if (!(err instanceof SessionEnded)) throw err;
    }
    return clearedCookie(cookie.name);
  }

  #endFound({ id, email }: UserStanding, { signInId }: BrowserSession): Promise<void> {
    const actor = { kind: "user", id, email, credential: "session", credentialId: signInId } as const;
    return actingFor(actor, () => this.#options.signIns.endOne(signInId));
  }

  async #session(cookie: FoundCookie): Promise<InBrowser> {
    // Sealed for its name: one that was had without TLS does not count where TLS is, whoever planted it.
    const payload = await this.#sealed.open(cookie.value, cookie.name);
    const claims = claimsOf(payload);
    const user = await this.#options.signIns.check({ ...claims, legacy: false });
    const due = this.#base.clock.now() / 1000 - (payload.iat ?? 0) > RENEW_AFTER_SECONDS;
    const { signInId, tokenVersion } = claims;
    const proof = { id: signInId, until: endOf(this.#base.clock, payload) };
    return { user, session: { signInId, tokenVersion, cookie: cookie.name, due }, proof };
  }

  async #cookie(user: Pick<UserStanding, "id" | "tokenVersion">, signInId: string, name: string): Promise<string> {
    const claims = { sub: user.id, tv: user.tokenVersion, sid: signInId };
    return setCookie(
      name,
      await this.#sealed.seal(claims, { audience: name, seconds: SESSION_SECONDS }),
      SESSION_SECONDS,
    );
  }
}

const claimsOf = ({ sub, tv, sid }: JWTPayload) => {
  const userId = parseUuid(sub ?? "");
  const signInId = typeof sid === "string" ? parseUuid(sid) : undefined;
  if (!userId || !signInId || typeof tv !== "number") throw new TokenError("not a session");
  return { userId, signInId, tokenVersion: tv };
};

/** Whether browsers reach the hub over TLS there. */
export const isSecure = (origin: string): boolean => origin.startsWith("https:");
