import { HubError, notFound, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  type AuditEvent,
  actingFor,
  type Db,
  followAddress,
  type InviteRow,
  identitiesOf,
  insertAllowed,
  insertIdentity,
  insertSignedInUser,
  isIdentityTaken,
  isUniqueViolation,
  lockUserByEmail,
  lockUserByIdentity,
  noteIdentity,
  recordAudit,
  recordSignIn,
  transaction,
  type UserRow,
  upsertTestUser,
  useInvite,
} from "@rootstock/store";
import { type AdmissionRules, admission, isInDomain, rulesFor } from "./admission.ts";
import { domainOf, type ProvenIdentity } from "./identity.ts";
import { inviteCodeHash } from "./inviteCodes.ts";
import { namesOf, opensByAddress, presentName } from "./linking.ts";
import { isListed } from "./listed.ts";

export interface PeopleOptions {
  readonly db: Db;
  readonly rules: AdmissionRules;
  /** Issuers that open each other's accounts by a verified address; none where it is absent. */
  readonly byEmail?: ReadonlySet<string>;
  /** The account that no issuer opens: whoever is signed in for development. */
  readonly developer?: Uuid;
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

const refused = (message: string): HubError => new HubError("unauthorized_domain", message);

/** Told to whoever an issuer gives the address of somebody's account: not by whom that one is opened, nor how it stands. */
const notLinked = (): HubError =>
  new HubError(
    "identity_not_linked",
    "this address belongs to an account that another sign-in opens: sign in as you did before and link this one under " +
      "/account, or ask an administrator",
  );

/** Another sign-in of the same person, or with the same address, was faster: what it has made is looked at again. */
class Overtaken extends Error {
  override readonly name = "Overtaken";
}

/** After so long, in milliseconds, a person whom each call names has come anew. */
const NEW_VISIT_MS = 3_600_000;

/** A sign-in may be overtaken so often. */
const ATTEMPTS = 4;

/** Lets people in (spec/03 3.7): every way to sign in ends here, so that none of them forgets a rule. */
export class People {
  readonly #base: Base;
  readonly #options: PeopleOptions;

  constructor(base: Base, options: PeopleOptions) {
    this.#base = base;
    this.#options = options;
  }

  /**
   * The account of a proven identity, made at the first sign-in. An account is found by issuer and subject; by its address
   * only while nothing else opens it ({@link opensByAddress}). Throws 403: `unauthorized_domain` for who may not come in,
   * `identity_not_linked` for who is given the address of somebody else's account, `user_suspended` for who may not come in
   * any more. An invite is used up only if it was needed.
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
        const about = {
          reason: err.message,
          targetType: "user",
          targetName: email,
          details: { issuer, subject, code: err.code },
        };
        await this.#options.denied({ action: "login_denied", ...about });
      }
      throw err;
    }
  }

  async #admit(identity: ProvenIdentity, extras: SignInExtras): Promise<UserRow> {
    for (let attempt = 1; ; attempt += 1)
      try {
        return await transaction(this.#options.db, (tx) => this.#attempt(tx, identity, extras));
      } catch (err) {
        if (!(err instanceof Overtaken) && !isUniqueViolation(err)) throw err;
        if (attempt >= ATTEMPTS)
          throw new HubError("unavailable", "sign-in was interrupted; try again", { retryAfter: 1, cause: err });
      }
  }

  async #attempt(tx: Db, identity: ProvenIdentity, extras: SignInExtras): Promise<UserRow> {
    const known = await this.#known(tx, identity);
    const holder = known ?? (await lockUserByEmail(tx, identity.email));
    const admin = await this.#checkAdmission(tx, identity, extras, holder?.email);
    // Nor by what a release has linked to it that let anybody with its address in.
    if (holder && holder.id === this.#options.developer) throw notLinked();
    if (holder && !known) await this.#demandUnclaimed(tx, identity, holder);
    if (holder && holder.status !== "active") throw new HubError("user_suspended", "this account is suspended");
    const user = holder ?? (await this.#make(tx, identity, admin));
    const { email } = identity;
    if (!known && !(await insertIdentity(tx, { ...presentName(identity), userId: user.id, email })))
      throw new Overtaken();
    if (extras.lasting === false && this.#isNewVisit(holder)) await recordLogin(tx, user, identity);
    return recordSignIn(tx, user.id, {
      displayName: identity.displayName,
      avatarUrl: identity.avatarUrl ?? null,
      promote: admin && user.role !== "admin",
    });
  }

  /** The account that the identity opens, locked, with the address that it has now. */
  async #known(tx: Db, identity: ProvenIdentity): Promise<UserRow | undefined> {
    const names = namesOf(identity);
    const user = await lockUserByIdentity(tx, names);
    if (!user) return undefined;
    const { id } = user;
    // Taken from the account while its row was waited for.
    if (!(await noteIdentity(tx, names, { userId: id, email: identity.email }))) throw new Overtaken();
    if (user.email === identity.email) return user;
    return (await followAddress(tx, id, identity.email)) ?? user;
  }

  /** Whether whoever has the address may take the account that has it. Throws 403 `identity_not_linked`. */
  async #demandUnclaimed(tx: Db, identity: ProvenIdentity, holder: UserRow): Promise<void> {
    const { byEmail = new Set() } = this.#options;
    if (opensByAddress(byEmail, identity, await identitiesOf(tx, holder.id))) return;
    // The same person, whose first sign-in has just ended.
    if (await isIdentityTaken(tx, namesOf(identity))) throw new Overtaken();
    throw notLinked();
  }

  async #make(tx: Db, identity: ProvenIdentity, admin: boolean): Promise<UserRow> {
    const user = await insertSignedInUser(tx, {
      id: this.#base.random.uuid(),
      email: identity.email,
      role: admin ? "admin" : "member",
    });
    if (!user) throw new Overtaken();
    return user;
  }

  #isNewVisit(known: UserRow | undefined): boolean {
    const last = known?.last_login?.getTime() ?? 0;
    return this.#base.clock.now() - last > NEW_VISIT_MS;
  }

  /** Whether the identity opens this account, whoever may come in by now. */
  async opens(identity: Pick<ProvenIdentity, "issuer" | "subject">, userId: Uuid): Promise<boolean> {
    const { issuers, subject } = namesOf(identity);
    const linked = await identitiesOf(this.#options.db, userId);
    return linked.some((row) => row.subject === subject && issuers.includes(row.issuer));
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
   * `unauthorized_domain` for an address outside of the configured domains, and where invites let nobody in.
   */
  async redeem(user: { readonly id: string; readonly email: string }, code: string): Promise<void> {
    const { emailDomains, mode } = this.#options.rules;
    if (mode === "allow_list") throw refused(`${user.email} may not use an invite here: the allow list alone decides`);
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

  /** Whether the identity comes in as an admin, to the account with this address. Throws when it does not come in. */
  async #checkAdmission(
    tx: Db,
    identity: ProvenIdentity,
    extras: SignInExtras,
    address: string | undefined,
  ): Promise<boolean> {
    const decision = admission(rulesFor(this.#options.rules, identity, address), identity);
    if (decision.allow === true) return decision.admin;
    if (decision.allow === false) throw refused(`${identity.email} may not sign in here: ${decision.reason}`);
    if (await isListed(tx, identity, address)) return false;
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
