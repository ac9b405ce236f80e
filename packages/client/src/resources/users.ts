import type { Http } from "../http.ts";
import { allOf } from "../pages.ts";

export type UserRole = "admin" | "member" | "viewer";
export type UserStatus = "active" | "suspended";

/** A person as the hub shows them (spec/03 6.1); times that never were are `0001-01-01T00:00:00Z`. */
export interface User {
  readonly id: string;
  readonly email: string;
  readonly displayName: string;
  readonly role: UserRole;
  readonly status: UserStatus;
  readonly created: string;
  readonly lastLogin: string;
  readonly lastSeen: string;
}

/** A sign-in that opens an account. */
export interface Identity {
  readonly id: string;
  readonly issuer: string;
  readonly subject: string;
  /** The provider at which it signs in; undefined for one that is not configured. */
  readonly provider?: string;
  readonly label: string;
  readonly email: string;
  readonly created: string;
  readonly lastUsed: string;
}

export interface UserFilter {
  readonly role?: UserRole | undefined;
  readonly status?: UserStatus | undefined;
  /** Part of the address or name. */
  readonly search?: string | undefined;
}

const PATH = "/api/v1/users";

/** People (spec/03 6.1). Changing and ending accounts is for admins. */
export class Users {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  all(filter: UserFilter = {}): AsyncGenerator<User> {
    return allOf(this.#http, { path: PATH, as: "users", query: { ...filter, limit: 200 } });
  }

  get(id: string): Promise<User> {
    return this.#http.json("GET", at(id));
  }

  /** Another role, or suspended: at every replica within two seconds. */
  change(id: string, change: { readonly role?: UserRole; readonly status?: UserStatus }): Promise<User> {
    return this.#http.json("PATCH", at(id), { body: change });
  }

  delete(id: string): Promise<void> {
    return this.#http.done("DELETE", at(id));
  }

  /** Ends all that signing in has given them, everywhere. */
  signOut(id: string): Promise<void> {
    return this.#http.done("POST", `${at(id)}/sign-out-everywhere`);
  }

  /** The sign-ins that open their account. */
  async *identities(id: string): AsyncGenerator<Identity> {
    const { identities } = await this.#http.json<{ readonly identities: readonly Identity[] }>(
      "GET",
      `${at(id)}/identities`,
    );
    yield* identities;
  }

  /** Takes a sign-in from their account, and signs them out everywhere. */
  unlink(id: string, identityId: string): Promise<void> {
    return this.#http.done("DELETE", `${at(id)}/identities/${encodeURIComponent(identityId)}`);
  }
}

const at = (id: string): string => `${PATH}/${encodeURIComponent(id)}`;

export interface NewInvite {
  /** A duration such as `24h`, at most `120h`. */
  readonly expiresIn: string;
  /** How many may use it; 0: any number. */
  readonly maxUses: number;
  readonly note: string;
  /** An address on the allow list that the invite is linked to. */
  readonly email?: string | undefined;
}

/** What lets somebody in; `code` and `inviteUrl` are shown this once (spec/03 6.6). */
export interface CreatedInvite {
  readonly code: string;
  readonly inviteUrl: string;
  readonly invite: { readonly id: string; readonly expiresAt: string; readonly maxUses: number };
}

/** Invites (spec/03 6.6), for admins. */
export class Invites {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  create(invite: NewInvite): Promise<CreatedInvite> {
    return this.#http.json("POST", "/api/v1/admin/invites", { body: invite });
  }
}
