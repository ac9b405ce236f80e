import { HubError, notFound, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  type AuditEvent,
  type Db,
  type IdentityKey,
  type IdentityRow,
  identitiesOf,
  insertIdentity,
  isIdentityTaken,
  lockUser,
  noteIdentity,
  removeIdentity,
  transaction,
  type UserRow,
} from "@rootstock/store";
import { type AdmissionRules, admission, rulesFor } from "./admission.ts";
import type { ProvenIdentity } from "./identity.ts";
import { isAmong, namesOf, presentName } from "./linking.ts";
import { isListed } from "./listed.ts";

export interface LinkedSignInsOptions {
  readonly db: Db;
  readonly rules: AdmissionRules;
  /** The account that no issuer opens: whoever is signed in for development. */
  readonly developer: Uuid;
  /** Issuers by which people can come as this hub is configured; absent: any. */
  readonly issuers?: ReadonlySet<string>;
  /** Called after a commit that the change log tells of: what was known of the user does not hold any more. */
  readonly changed: (userId: Uuid) => void;
  /** Records that a sign-in was not linked. */
  readonly denied: (event: Omit<AuditEvent, "success">) => Promise<void>;
}

export interface UnlinkOptions {
  readonly evenLast: boolean;
  /** By whom a proxy before the hub vouches for who asks. */
  readonly inUse?: IdentityKey | undefined;
}

const isSame = (one: IdentityKey, other: IdentityKey): boolean => {
  const [a, b] = [presentName(one), presentName(other)];
  return a.issuer === b.issuer && a.subject === b.subject;
};

/** The sign-ins that open an account, as its owner keeps them: listed, linked, and unlinked. */
export class LinkedSignIns {
  readonly #base: Base;
  readonly #options: LinkedSignInsOptions;

  constructor(base: Base, options: LinkedSignInsOptions) {
    this.#base = base;
    this.#options = options;
  }

  /** What opens the account, the oldest first; one that is stored under two names once. */
  async list(userId: Uuid): Promise<readonly IdentityRow[]> {
    const shown = new Map<string, IdentityRow>();
    for (const row of await identitiesOf(this.#options.db, userId)) {
      const name = presentName(row);
      const key = JSON.stringify([name.issuer, name.subject]);
      const twin = shown.get(key);
      const latest = twin && twin.last_login > row.last_login ? twin : row;
      shown.set(key, twin ? { ...twin, email: latest.email, last_login: latest.last_login } : { ...row, ...name });
    }
    return [...shown.values()];
  }

  /** Whether sign-ins can be linked to the account at all. */
  isOpen(userId: Uuid): boolean {
    return userId !== this.#options.developer;
  }

  /**
   * Links a proven identity to the account of who asks for it; its address need not be the account's. Throws 403
   * `unauthorized_domain` for one that could not sign in here, 403 `user_suspended`, 409 `identity_taken` for one that opens
   * another account, 409 `conflict` for a second one of the same issuer.
   */
  async link(userId: Uuid, identity: ProvenIdentity): Promise<void> {
    const { db, changed, denied } = this.#options;
    const { issuer, subject } = presentName(identity);
    try {
      await transaction(db, (tx) => this.#link(tx, userId, identity));
    } catch (err) {
      if (err instanceof HubError) {
        this.#base.log.warn({ userId, issuer, subject, code: err.code, reason: err.message }, "sign-in not linked");
        const details = { issuer, subject, code: err.code };
        await denied({ action: "link_denied", reason: err.message, targetType: "user", targetId: userId, details });
      }
      throw err;
    }
    changed(userId);
    this.#base.log.info({ userId, issuer, subject }, "sign-in linked");
  }

  async #link(tx: Db, userId: Uuid, identity: ProvenIdentity): Promise<void> {
    const { email } = identity;
    const user = await lockUser(tx, userId);
    if (!user) throw new HubError("unauthorized", "this account is gone");
    if (user.status !== "active") throw new HubError("user_suspended", "this account is suspended");
    if (!this.isOpen(userId)) throw new HubError("conflict", "the development user has no sign-ins of its own");
    await this.#demandAdmission(tx, user, identity);
    const names = namesOf(identity);
    if (await noteIdentity(tx, names, { userId, email })) return;
    const taken = new HubError("identity_taken", "this sign-in opens another account already");
    if (await isIdentityTaken(tx, names)) throw taken;
    const linked = await identitiesOf(tx, userId);
    if (linked.some((row) => names.issuers.includes(row.issuer)))
      throw new HubError("conflict", "another sign-in of the same provider is linked already: unlink it first");
    if (!(await insertIdentity(tx, { ...presentName(identity), userId, email }))) throw taken;
  }

  /** What could not sign in by itself is not linked: the rules are about every way in. */
  async #demandAdmission(tx: Db, user: UserRow, identity: ProvenIdentity): Promise<void> {
    const decision = admission(rulesFor(this.#options.rules, identity, user.email), identity);
    if (decision.allow === true) return;
    if (decision.allow === "listed" && (await isListed(tx, identity, user.email))) return;
    const reason = decision.allow === false ? decision.reason : "not_on_allow_list";
    throw new HubError("unauthorized_domain", `${identity.email} may not sign in here: ${reason}`);
  }

  /**
   * Takes a sign-in from an account, and ends all that signing in has given it. Throws 404 for one that is not there, 409
   * `conflict` for the last one by which its owner can come, unless `evenLast`, and for `inUse`: what a proxy says with
   * every call of theirs would be refused from then on. Returns the account as it is now.
   */
  async unlink(userId: Uuid, id: Uuid, { evenLast, inUse }: UnlinkOptions): Promise<UserRow> {
    const { db, changed, issuers } = this.#options;
    if (inUse && (await this.list(userId)).some((row) => row.id === id && isSame(row, inUse)))
      throw new HubError("conflict", "the proxy before this hub signs you in by this one", {
        details: { reason: "in_use" },
      });
    const canCome = ({ issuer }: IdentityKey) => issuers === undefined || isAmong(issuers, issuer);
    const done = await removeIdentity(db, { userId, id, evenLast }, { namesOf, canCome });
    if (done.kind === "gone") throw notFound("Sign-in");
    if (done.kind === "last")
      throw new HubError("conflict", "this is the last sign-in by which you can come: link another one first");
    changed(userId);
    const { issuer, subject } = done.identity;
    this.#base.log.info({ userId, issuer, subject }, "sign-in unlinked");
    return done.user;
  }
}
