import { HubError, type Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import {
  type People,
  type ProvenIdentity,
  parseEmail,
  type SignInExtras,
  type UserStandings,
} from "../people/index.ts";
import type { AddressList } from "./addressList.ts";
import { type AssertionVerifier, IAP } from "./assertions.ts";
import type { Credentials } from "./credentials.ts";
import { TokenError } from "./jwt.ts";

/** A header that says in plain text who calls, believed from some addresses alone. */
export interface PlainHeader {
  readonly header: string;
  readonly from: AddressList;
}

/** By which issuer people are stored whose address such a header says: who has the address is who they are. */
export const headerIssuer = (header: string): string => `header:${header.toLowerCase()}`;

export interface ProxyLoginOptions {
  readonly clock: Clock;
  readonly people: Pick<People, "signIn" | "opens">;
  readonly standings: Pick<UserStandings, "find">;
  readonly verifiers: readonly AssertionVerifier[];
  readonly plain: PlainHeader | undefined;
}

/** Somebody who has been let in, and the version of what their account gave out by then. */
interface Known {
  readonly at: number;
  readonly user: Promise<{ readonly id: Uuid; readonly tokenVersion: number }>;
}

/** For so long a person whom a proxy vouches for is not signed in anew at each call, in milliseconds. */
const KNOWN_MS = 60_000;
const MOST_KNOWN = 10_000;

/**
 * People whom a proxy before the hub has signed in: there is nothing to log in to, each call says who makes it, and the
 * first one makes the account.
 */
export class ProxyLogin {
  readonly #options: ProxyLoginOptions;
  #known = new Map<string, Known>();
  /** What began with an assertion may last longer than it; who made it stays who they are. */
  readonly #proven = new WeakMap<Headers, ProvenIdentity>();

  constructor(options: ProxyLoginOptions) {
    this.#options = options;
  }

  /**
   * The user whom a proxy vouches for; undefined where none does. Throws 401 for an assertion that proves nothing, and
   * what {@link People.signIn} throws.
   */
  async userOf(request: Credentials): Promise<Uuid | undefined> {
    const identity = await this.provenBy(request);
    return identity && this.#userId(identity);
  }

  /**
   * Lets in whom a proxy vouches for, with what they bring along; nothing happens where none does. Throws what
   * {@link People.signIn} throws.
   */
  async admit(request: Credentials, extras: SignInExtras): Promise<void> {
    const identity = await this.provenBy(request);
    if (identity) await this.#options.people.signIn(identity, { ...extras, lasting: false });
  }

  /** Which proxy signs people in; undefined: none does. */
  get kind(): "iap" | "proxy" | undefined {
    const { verifiers, plain } = this.#options;
    if (verifiers.some((v) => v.header === IAP.header)) return "iap";
    return verifiers.length > 0 || plain ? "proxy" : undefined;
  }

  /** Whom a proxy vouches for; undefined where none does. Throws 401 for an assertion that proves nothing. */
  async provenBy(request: Pick<Credentials, "headers" | "peer">): Promise<ProvenIdentity | undefined> {
    const identity = this.#proven.get(request.headers) ?? (await this.#identity(request));
    if (identity) this.#proven.set(request.headers, identity);
    return identity;
  }

  /** To be called when what was known of a user does not hold any more. */
  forget(userId: Uuid): void {
    for (const [key, known] of this.#known)
      void known.user.then(
        ({ id }) => id === userId && this.#known.get(key) === known && this.#known.delete(key),
        () => {},
      );
  }

  /** To be called when others may come in than before: everybody is signed in anew by their next call. */
  forgetAll(): void {
    this.#known = new Map();
  }

  async #identity({ headers, peer }: Pick<Credentials, "headers" | "peer">): Promise<ProvenIdentity | undefined> {
    for (const verifier of this.#options.verifiers) {
      const token = headers.get(verifier.header);
      if (token === null) continue;
      try {
        return await verifier.verify(token.trim());
      } catch (err) {
        if (!(err instanceof TokenError)) throw err;
        throw new HubError("unauthorized", `invalid proxy assertion: ${err.message}`, { cause: err });
      }
    }
    const { plain } = this.#options;
    const value = plain && headers.get(plain.header);
    if (!plain || value === null || value === undefined || !plain.from.has(peer)) return undefined;
    const email = parseEmail(value);
    if (!email) throw new HubError("unauthorized", `invalid proxy assertion: ${plain.header} is no e-mail address`);
    return {
      issuer: headerIssuer(plain.header),
      subject: email,
      email,
      displayName: email.slice(0, email.indexOf("@")),
      avatarUrl: undefined,
      hostedDomain: undefined,
    };
  }

  async #userId(identity: ProvenIdentity): Promise<Uuid> {
    const { clock, people, standings } = this.#options;
    const { issuer, subject, email, hostedDomain } = identity;
    const key = JSON.stringify([issuer, subject, email, hostedDomain]);
    const fresh = () => {
      const found = this.#known.get(key);
      return found && clock.elapsed() - found.at < KNOWN_MS ? found : undefined;
    };
    const found = fresh();
    if (found) {
      const { id, tokenVersion } = await found.user;
      const now = (await standings.find(id))?.tokenVersion ?? tokenVersion;
      if (now <= tokenVersion) return id;
      // All that signing in has given is void since: it may be that this does not open the account any more.
      if (await people.opens(identity, id)) {
        if (this.#known.get(key) === found)
          this.#known.set(key, { at: found.at, user: Promise.resolve({ id, tokenVersion: now }) });
        return id;
      }
      if (this.#known.get(key) === found) this.#known.delete(key);
    }
    return (await (fresh() ?? this.#signIn(key, identity)).user).id;
  }

  #signIn(key: string, identity: ProvenIdentity): Known {
    const user = this.#options.people
      .signIn(identity, { lasting: false })
      .then(({ id, token_version: tokenVersion }) => ({ id, tokenVersion }));
    const known = { at: this.#options.clock.elapsed(), user };
    this.#known.delete(key);
    this.#known.set(key, known);
    // Refused or failed: asked anew by the next call, which may be admitted by then.
    user.catch(() => this.#known.get(key) === known && this.#known.delete(key));
    if (this.#known.size > MOST_KNOWN)
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    return known;
  }
}
