import { HubError, notFound, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  type AuditEvent,
  actingFor,
  type Db,
  type InviteRow,
  insertAllowed,
  insertSignedInUser,
  isAllowListed,
  linkIdentity,
  lockUserByEmail,
  lockUserByIdentity,
  recordAudit,
  recordSignIn,
  transaction,
  type UserRow,
  upsertTestUser,
  useInvite,
} from "@rootstock/store";
import { type AdmissionRules, admission, isInDomain } from "./admission.ts";
import { domainOf, type ProvenIdentity } from "./identity.ts";
import { inviteCodeHash } from "./inviteCodes.ts";

export interface PeopleOptions {
  readonly db: Db;
  readonly rules: AdmissionRules;
  /** Called after a commit that the change log tells of. */
  readonly changed: () => void;
  /** Records that somebody was not let in. */
  readonly denied: (event: Omit<AuditEvent, "success">) => Promise<void>;
}

/** What somebody brings along to a sign-in. */
export interface SignInExtras {
  readonly inviteCode?: string | undefined;
  /**
   * False: nothing is issued for the sign-in, who it is comes with each call. The audit log tells of those once an hour;
   * of the others it tells when something is issued.
   */
  readonly lasting?: boolean;
}

/** A refused sign-in: 403 `unauthorized_domain` or `user_suspended`. */
const refused = (message: string): HubError => new HubError("unauthorized_domain", message);

/** After so long, in milliseconds, a person whom each call names has come anew. */
const NEW_VISIT_MS = 3_600_000;

/** Another sign-in of the same person was faster; what it made is looked at again. */
const ATTEMPTS = 3;

/** Lets people in (spec/03 3.7): every way to sign in ends here, so that none of them forgets a rule. */
export class People {
  readonly #base: Base;
  readonly #options: PeopleOptions;

  constructor(base: Base, options: PeopleOptions) {
    this.#base = base;
    this.#options = options;
  }

  /**
   * The account of a proven identity, made at the first sign-in. An account is found by issuer and subject. By its address
   * it is found only as long as it is nobody else's at that issuer, and some issuer still gives it that address. Throws 403 `unauthorized_domain` for who may not come
   * in, 403 `user_suspended` for who may not any more. An invite is used up only if it was needed.
   */
  async signIn(identity: ProvenIdentity, extras: SignInExtras = {}): Promise<UserRow> {
    const { log } = this.#base;
    const who = { issuer: identity.issuer, subject: identity.subject, email: identity.email };
    try {
      const user = await actingFor({ kind: "user", email: identity.email, credential: identity.issuer }, () =>
        this.#admit(identity, extras),
      );
      this.#options.changed();
      log.info({ ...who, userId: user.id, role: user.role }, "signed in");
      return user;
    } catch (err) {
      if (err instanceof HubError) {
        log.warn({ ...who, code: err.code, reason: err.message }, "sign-in refused");
        const { issuer, subject, email } = who;
        const about = { reason: err.message, targetType: "user", targetName: email, details: { issuer, subject } };
        await this.#options.denied({ action: "login_denied", ...about });
      }
      throw err;
    }
  }

  async #admit(identity: ProvenIdentity, extras: SignInExtras): Promise<UserRow> {
    for (let attempt = 1; ; attempt += 1) {
      const user = await transaction(this.#options.db, (tx) => this.#attempt(tx, identity, extras));
      if (user) return user;
      if (attempt >= ATTEMPTS)
        throw new HubError("unavailable", "sign-in was interrupted; try again", { retryAfter: 1 });
    }
  }

  async #attempt(tx: Db, identity: ProvenIdentity, extras: SignInExtras): Promise<UserRow | undefined> {
    const known = (await lockUserByIdentity(tx, identity)) ?? (await lockUserByEmail(tx, identity.email));
    const admin = await this.#checkAdmission(tx, identity, extras);
    if (known && known.status !== "active") throw new HubError("user_suspended", "this account is suspended");
    const user =
      known ??
      (await insertSignedInUser(tx, {
        id: this.#base.random.uuid(),
        email: identity.email,
        displayName: identity.displayName,
        avatarUrl: identity.avatarUrl ?? null,
        role: admin ? "admin" : "member",
      }));
    if (!user) return undefined;
    if (!(await linkIdentity(tx, { ...identity, userId: user.id })))
      throw refused("this address belongs to another account; an administrator can help");
    if (extras.lasting === false && this.#isNewVisit(known)) await recordLogin(tx, user, identity);
    return recordSignIn(tx, user.id, {
      displayName: identity.displayName,
      avatarUrl: identity.avatarUrl ?? null,
      promote: admin && user.role !== "admin",
    });
  }

  #isNewVisit(known: UserRow | undefined): boolean {
    const last = known?.last_login?.getTime() ?? 0;
    return this.#base.clock.now() - last > NEW_VISIT_MS;
  }

  /**
   * The account of whoever a test wants to be, with this role; no rule of access is asked. Throws 403 `user_suspended`.
   */
  async testUser(
    user: Pick<ProvenIdentity, "email" | "displayName"> & { readonly role: UserRow["role"] },
  ): Promise<Uuid> {
    const row = await upsertTestUser(this.#options.db, { id: this.#base.random.uuid(), ...user });
    this.#options.changed();
    if (row.status !== "active") throw new HubError("user_suspended", "this account is suspended");
    this.#base.log.info({ userId: row.id, email: row.email, role: row.role }, "signed in by test login");
    return row.id;
  }

  /**
   * Puts somebody who is in already on the allow list, for an invite. Throws 404 for a code that does not let in, 403
   * `unauthorized_domain` for an address outside of the configured domains.
   */
  async redeem(user: { readonly id: string; readonly email: string }, code: string): Promise<void> {
    const { emailDomains } = this.#options.rules;
    if (emailDomains.length > 0 && !emailDomains.some((d) => isInDomain(domainOf(user.email), d)))
      throw refused(`${user.email} may not use an invite here: domain_not_authorized`);
    const hash = inviteCodeHash(code);
    const invite = hash && (await transaction(this.#options.db, (tx) => this.#use(tx, hash, user.email)));
    if (!invite) throw notFound("Invite");
    this.#options.changed();
    this.#base.log.info({ inviteId: invite.id, userId: user.id }, "invite redeemed");
  }

  /** Uses an invite up by one and lists the address; one that is listed stays as it is. Undefined: no good. */
  async #use(tx: Db, hash: Buffer, email: string): Promise<InviteRow | undefined> {
    const invite = await useInvite(tx, hash);
    if (!invite) return undefined;
    await insertAllowed(tx, {
      id: this.#base.random.uuid(),
      email,
      note: `invite ${invite.code_prefix}`,
      addedBy: invite.created_by,
      inviteId: invite.id,
    });
    return invite;
  }

  /** Whether the identity comes in as an admin. Throws when it does not come in. */
  async #checkAdmission(tx: Db, identity: ProvenIdentity, extras: SignInExtras): Promise<boolean> {
    const decision = admission(this.#options.rules, identity);
    if (decision.allow === true) return decision.admin;
    if (decision.allow === false) throw refused(`${identity.email} may not sign in here: ${decision.reason}`);
    if (await isAllowListed(tx, identity.email)) return false;
    const hash = decision.invites && extras.inviteCode ? inviteCodeHash(extras.inviteCode) : undefined;
    const invite = hash && (await this.#use(tx, hash, identity.email));
    if (!invite) throw refused(`${identity.email} may not sign in here: not_on_allow_list`);
    return false;
  }
}

const recordLogin = (tx: Db, user: UserRow, { issuer }: ProvenIdentity): Promise<void> =>
  actingFor({ id: user.id }, () =>
    recordAudit(tx, {
      action: "login",
      targetType: "user",
      targetId: user.id,
      targetName: user.email,
      details: { client: "proxy", issuer },
    }),
  );
