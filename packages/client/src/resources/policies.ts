import type { Http } from "../http.ts";
import { allOf } from "../pages.ts";

/** A policy as the hub shows it (spec/03 6.3). */
export interface Policy {
  readonly id: string;
  readonly name: string;
  readonly description?: string;
  readonly scopeType: string;
  readonly scopeId: string;
  readonly resourceType: string;
  readonly resourceId?: string;
  readonly actions: readonly string[];
  readonly effect: "allow" | "deny";
  readonly conditions?: Readonly<Record<string, unknown>>;
  readonly priority: number;
}

/** For whom a policy is. */
export interface BoundPrincipal {
  readonly principalType: "user" | "group" | "agent";
  readonly principalId: string;
}

const PATH = "/api/v1/policies";

/** What people, groups and agents may do beyond their own, or may not (spec/03 6.3): for admins. */
export class Policies {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  all(): AsyncGenerator<Policy> {
    return allOf(this.#http, { path: PATH, as: "policies", query: { limit: 500 } });
  }

  get(id: string): Promise<Policy> {
    return this.#http.json("GET", at(id));
  }

  /** `policy`: what the hub documents for it; the hub checks it. */
  create(policy: object): Promise<Policy> {
    return this.#http.json("POST", PATH, { body: policy });
  }

  delete(id: string): Promise<void> {
    return this.#http.done("DELETE", at(id));
  }

  async bindings(id: string): Promise<readonly BoundPrincipal[]> {
    const answer = await this.#http.json<{ readonly bindings: readonly BoundPrincipal[] }>("GET", `${at(id)}/bindings`);
    return answer.bindings;
  }

  bind(id: string, principal: BoundPrincipal): Promise<void> {
    return this.#http.done("POST", `${at(id)}/bindings`, { body: principal });
  }

  unbind(id: string, { principalType, principalId }: BoundPrincipal): Promise<void> {
    return this.#http.done("DELETE", `${at(id)}/bindings/${principalType}/${encodeURIComponent(principalId)}`);
  }
}

const at = (id: string): string => `${PATH}/${encodeURIComponent(id)}`;
