import { createHash } from "node:crypto";
import { HubError } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  type Db,
  insertLoginCode,
  recordAudit,
  redeemLoginCode,
  transaction,
  type UserStanding,
} from "@rootstock/store";
import { SignJWT } from "jose";
import type { UserStandings } from "../people/index.ts";
import { TokenError } from "./jwt.ts";
import { admittedUser, type ProgramLogin, programAudit, withQuery } from "./programLogin.ts";
import type { SignIns } from "./signIns.ts";
import type { SigningKeys } from "./signingKeys.ts";

/** A program on the person's own machine that asks for tokens: the hub is its authorization server (RFC 6749 4.1). */
export interface LoginRequest {
  /** Where the browser takes the code: a port of the person's own machine. */
  readonly callbackUrl: string;
  /** The program's own, given back to it. */
  readonly state: string;
  /** The provider that it would like the person to sign in at. */
  readonly provider: string | undefined;
  /** From where it asked, and what it calls itself: shown to the person. */
  readonly address: string;
  readonly program: string;
}

export interface LoginCodesOptions {
  readonly db: Db;
  readonly signIns: SignIns;
  readonly standings: Pick<UserStandings, "forgetSignIn">;
  readonly signingKeys: SigningKeys;
}

/** So long a person has to say yes, in seconds: the program waits for five minutes. */
const REQUEST_SECONDS = 600;
/** So long a program has to exchange its code, in seconds: the browser takes it there at once. */
const CODE_SECONDS = 60;
const CODE_BYTES = 32;
const TYP = "rootstock-login-request+jwt";
const ISSUER = "rootstock";
const AUDIENCE = "rootstock-login";
const MAX_CALLBACK = 2_048;

/**
 * A callback of a program on the same machine as the browser: `http` at a loopback address, any port (RFC 8252 7.3).
 * Undefined for any other: a code must never leave the machine.
 */
export const parseLoopbackUrl = (text: string): string | undefined => {
  if (text.length > MAX_CALLBACK || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  const loopback = ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  const plain = url.username === "" && url.password === "" && url.hash === "";
  return url.protocol === "http:" && loopback && plain && !/[\s\\]/.test(text) ? text : undefined;
};

/**
 * Browser logins of programs. What a program asks for travels in the address of the page, signed: nothing is stored for
 * whoever merely asks, and any replica shows the page. What the person says is a row.
 */
export class LoginCodes {
  readonly #base: Base;
  readonly #options: LoginCodesOptions;

  constructor(base: Base, options: LoginCodesOptions) {
    this.#base = base;
    this.#options = options;
  }

  /** The request as a text for an address. */
  async seal(request: LoginRequest): Promise<string> {
    const now = Math.floor(this.#base.clock.now() / 1000);
    const token = new SignJWT({ ...request })
      .setIssuer(ISSUER)
      .setSubject(this.#base.random.uuid())
      .setAudience(AUDIENCE)
      .setIssuedAt(now)
      .setExpirationTime(now + REQUEST_SECONDS);
    return this.#options.signingKeys.sign(token, TYP);
  }

  /** The request in such a text; undefined when it is none of this hub, or too old. */
  async open(text: string): Promise<LoginRequest | undefined> {
    const { clock } = this.#base;
    try {
      const expected = { issuer: ISSUER, audience: AUDIENCE, typ: TYP };
      const { callbackUrl, state, provider, address, program } = await this.#options.signingKeys.verify(
        clock,
        text,
        expected,
      );
      if (typeof callbackUrl !== "string" || typeof state !== "string") return undefined;
      return {
        callbackUrl,
        state,
        provider: typeof provider === "string" ? provider : undefined,
        address: String(address ?? ""),
        program: String(program ?? ""),
      };
    } catch (err) {
      if (err instanceof TokenError) return undefined;
      throw err;
    }
  }

  /**
   * Where to send the browser of a person who said yes: to the program, with a code for it. `issuer`: this hub's address,
   * by which a program that talks to several tells whose answer it is (RFC 9207).
   */
  async allow(request: LoginRequest, user: UserStanding, issuer: string): Promise<string> {
    const code = this.#base.random.bytes(CODE_BYTES).toString("base64url");
    await transaction(this.#options.db, async (tx) => {
      await insertLoginCode(tx, {
        hash: sha256(code),
        userId: user.id,
        tokenVersion: user.tokenVersion,
        callbackUrl: request.callbackUrl,
        lifetimeSeconds: CODE_SECONDS,
      });
      await recordAudit(tx, programAudit("program_login_allowed", user, request));
    });
    this.#base.log.info({ userId: user.id, address: request.address }, "program login allowed");
    return withQuery(request.callbackUrl, { code, state: request.state, iss: issuer });
  }

  /** Where to send the browser of a person who said no. */
  deny(request: LoginRequest, issuer: string): string {
    return withQuery(request.callbackUrl, {
      error: "access_denied",
      error_description: "the login was refused in the browser",
      state: request.state,
      iss: issuer,
    });
  }

  /**
   * Tokens for a code, once. A code that comes back takes away what it gave: either exchange was somebody else's. Throws
   * 400 `oauth_error`, 403 `user_suspended`.
   */
  async redeem(code: string, callbackUrl: string): Promise<ProgramLogin> {
    const { db, signIns, standings } = this.#options;
    const signInId = this.#base.random.uuid();
    const outcome = await transaction(db, async (tx) => {
      const exchange = await redeemLoginCode(tx, { hash: sha256(code), callbackUrl, signInId });
      if (exchange.kind !== "redeemed") return exchange;
      const user = await admittedUser(tx, exchange.userId);
      return { kind: exchange.kind, user, tokens: await signIns.begin(user, "cli", { tx, signInId }) };
    });
    if (outcome.kind === "redeemed") {
      this.#base.log.info({ userId: outcome.user.id, signInId }, "program signed in");
      return outcome;
    }
    if (outcome.kind === "reused") {
      standings.forgetSignIn(outcome.signInId);
      this.#base.log.warn({ userId: outcome.userId, signInId: outcome.signInId }, "code used twice: sign-in ended");
    }
    throw new HubError("oauth_error", "failed to exchange authorization code");
  }
}

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();
