import { createHash } from "node:crypto";
import { HubError } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  type Db,
  decideDeviceLogin,
  findWaitingDevice,
  insertDeviceLogin,
  pollDeviceLogin,
  recordAudit,
  transaction,
  type UserStanding,
  type WaitingDevice,
} from "@rootstock/store";
import type { UserStandings } from "../people/index.ts";
import { admittedUser, type ProgramLogin, programAudit } from "./programLogin.ts";
import type { SignIns } from "./signIns.ts";
import { newUserCode, parseUserCode, userCodeHash } from "./userCodes.ts";

export interface DeviceLoginsOptions {
  readonly db: Db;
  readonly signIns: SignIns;
  readonly standings: Pick<UserStandings, "forgetSignIn">;
}

/** What a program that waits has been given. */
export interface DeviceLogin {
  /** Its own: whoever shows it gets the tokens. */
  readonly deviceCode: string;
  /** For the person to type. */
  readonly userCode: string;
  /** How long both are good, in seconds. */
  readonly expiresIn: number;
  /** How long to wait between two questions, in seconds. */
  readonly interval: number;
}

/** What a program hears that asks whether it may. */
export type DeviceAnswer =
  | ({ readonly status: "signed_in" } & ProgramLogin)
  | { readonly status: "authorization_pending" }
  | { readonly status: "slow_down"; readonly interval: number }
  | { readonly status: "expired_token" };

/** So long a person has to find a browser, in seconds. */
const LIFETIME_SECONDS = 600;
const INTERVAL_SECONDS = 5;
/** A program that asks too soon must wait so much longer from then on (RFC 8628 3.5). */
const PENALTY_SECONDS = 5;
const LONGEST_INTERVAL_SECONDS = 60;
const LEEWAY_SECONDS = 1;
const DEVICE_CODE_BYTES = 32;
const DEVICE_CODE_PREFIX = "scion_device_";
/**
 * Whoever asks makes a row: so many at most wait at once, over all replicas. An address makes 720 in a row's lifetime (the
 * limit `device`), so that it takes well over a hundred of them to keep everybody else out.
 */
const MOST_WAITING = 100_000;
/** A person may try so many codes that are none in so many seconds, at all replicas together. */
const MOST_WRONG_CODES = 10;
const WRONG_CODES_SECONDS = 600;
const ATTEMPTS = 5;

/** Logins of programs on machines without a browser (RFC 8628, spec/03 3.3). All of it is rows: any replica goes on. */
export class DeviceLogins {
  readonly #base: Base;
  readonly #options: DeviceLoginsOptions;

  constructor(base: Base, options: DeviceLoginsOptions) {
    this.#base = base;
    this.#options = options;
  }

  /**
   * Codes for a program that asks, `asker` being what the person will be shown of it. Throws 429 `rate_limited` while too
   * many programs wait.
   */
  async begin(asker: { readonly address: string; readonly program: string }): Promise<DeviceLogin> {
    const { random } = this.#base;
    for (let attempt = 1; ; attempt += 1) {
      const deviceCode = DEVICE_CODE_PREFIX + random.bytes(DEVICE_CODE_BYTES).toString("base64url");
      const userCode = newUserCode(random);
      const made = await insertDeviceLogin(this.#options.db, {
        deviceCodeHash: sha256(deviceCode),
        userCodeHash: userCodeHash(userCode),
        ...asker,
        lifetimeSeconds: LIFETIME_SECONDS,
        intervalSeconds: INTERVAL_SECONDS,
        most: MOST_WAITING,
      });
      if (made === "inserted") return { deviceCode, userCode, expiresIn: LIFETIME_SECONDS, interval: INTERVAL_SECONDS };
      if (made === "full" || attempt >= ATTEMPTS)
        throw new HubError("rate_limited", "too many logins are waiting; try again later", { retryAfter: 60 });
    }
  }

  /**
   * The program whose code somebody has typed; undefined when none waits for it. Throws 429 `rate_limited` for a person
   * who has tried too many.
   */
  async find(typed: string, user: Pick<UserStanding, "id">): Promise<WaitingDevice | undefined> {
    const found = await findWaitingDevice(this.#options.db, {
      // What is no code at all counts as well: it is looked for, and not found.
      userCodeHash: userCodeHash(parseUserCode(typed) ?? ""),
      userId: user.id,
      most: MOST_WRONG_CODES,
      windowSeconds: WRONG_CODES_SECONDS,
    });
    if (found !== "limited") return found;
    this.#base.log.warn({ userId: user.id }, "too many wrong user codes");
    throw new HubError("rate_limited", "too many wrong codes; try again in a few minutes", {
      retryAfter: WRONG_CODES_SECONDS,
    });
  }

  /** What the user says to the program with this code. False: it does not wait (any more). Throws as {@link find}. */
  async decide(typed: string, user: UserStanding, allow: boolean): Promise<boolean> {
    const waiting = await this.find(typed, user);
    if (!waiting) return false;
    const decided = await transaction(this.#options.db, async (tx) => {
      const done = await decideDeviceLogin(tx, {
        userCodeHash: userCodeHash(parseUserCode(typed) ?? ""),
        approvedBy: allow ? { userId: user.id, tokenVersion: user.tokenVersion } : undefined,
      });
      const action = allow ? "device_login_allowed" : "device_login_denied";
      if (done) await recordAudit(tx, programAudit(action, user, waiting));
      return done;
    });
    if (decided) this.#base.log.info({ userId: user.id, address: waiting.address, allow }, "device login decided");
    return decided;
  }

  /**
   * What a program hears that asks. Throws 400 `oauth_error` when it was refused, or for a code that is none; 403
   * `user_suspended`.
   */
  async poll(deviceCode: string): Promise<DeviceAnswer> {
    const { db, signIns, standings } = this.#options;
    const signInId = this.#base.random.uuid();
    const outcome = await transaction(db, async (tx) => {
      const polled = await pollDeviceLogin(tx, {
        deviceCodeHash: sha256(deviceCode),
        signInId,
        leewaySeconds: LEEWAY_SECONDS,
        penaltySeconds: PENALTY_SECONDS,
        longestSeconds: LONGEST_INTERVAL_SECONDS,
      });
      if (polled.kind !== "redeemed") return polled;
      const user = await admittedUser(tx, polled.userId);
      return { kind: polled.kind, user, tokens: await signIns.begin(user, "cli", { tx, signInId }) };
    });
    switch (outcome.kind) {
      case "redeemed":
        this.#base.log.info({ userId: outcome.user.id, signInId }, "program signed in");
        return { status: "signed_in", user: outcome.user, tokens: outcome.tokens };
      case "pending":
        return { status: "authorization_pending" };
      case "tooSoon":
        return { status: "slow_down", interval: outcome.intervalSeconds };
      case "expired":
        return { status: "expired_token" };
      case "reused":
        standings.forgetSignIn(outcome.signInId);
        this.#base.log.warn({ userId: outcome.userId, signInId: outcome.signInId }, "code used twice: sign-in ended");
        throw refused();
      default:
        throw refused();
    }
  }
}

/** One message for all: who holds no code that is waiting learns nothing about one. */
const refused = (): HubError => new HubError("oauth_error", "the login was refused or the device code is not valid");

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();
