import type { Http } from "../http.ts";
import { allOf } from "../pages.ts";

/** Whether somebody may do something. */
export interface AccessQuestion {
  readonly principalType: "user" | "agent";
  readonly principalId: string;
  readonly action: string;
  readonly resourceType: string;
  /** Without it: all of that type which belong to no project. */
  readonly resourceId?: string | undefined;
  /** From where the call would come. */
  readonly sourceIp?: string | undefined;
}

export interface AccessAnswer {
  readonly allowed: boolean;
  readonly reason: string;
  readonly matchedPolicy?: { readonly id: string; readonly name: string; readonly effect: string };
  readonly effectiveGroups?: readonly { readonly slug: string; readonly role?: string }[];
}

/** Why somebody may do something, or may not: for admins about everybody, for everybody about themselves. */
export class Access {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  explain(question: AccessQuestion): Promise<AccessAnswer> {
    return this.#http.json("GET", "/api/v1/access/explain", { query: { ...question } });
  }
}

/** What was done, by whom, on what. */
export interface AuditEntry {
  readonly id: string;
  readonly at: string;
  readonly action: string;
  readonly result: "success" | "failure";
  readonly reason?: string;
  readonly actor: { readonly kind: string; readonly id?: string; readonly email?: string };
  readonly target: { readonly type: string; readonly id?: string; readonly name?: string };
  readonly from: { readonly address?: string };
  readonly projectId?: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** All given fields must hold. Times are RFC 3339. */
export interface AuditFilter {
  /** An id, an e-mail address, or a kind. */
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  /** An id, a name, or a type. */
  readonly target?: string | undefined;
  readonly result?: "success" | "failure" | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
}

/** The audit log, newest first: for admins all of it, for who may change a project what concerns it. */
export class Audit {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  all(filter: AuditFilter = {}): AsyncGenerator<AuditEntry> {
    return allOf(this.#http, { path: "/api/v1/admin/audit", as: "items", query: { ...filter } });
  }

  ofProject(projectId: string, filter: AuditFilter = {}): AsyncGenerator<AuditEntry> {
    const path = `/api/v1/projects/${encodeURIComponent(projectId)}/audit`;
    return allOf(this.#http, { path, as: "items", query: { ...filter } });
  }
}
