import type { Http } from "../http.ts";
import { allOf } from "../pages.ts";

export type MemberRole = "member" | "admin" | "owner";
export type MemberType = "user" | "agent" | "group";

/** A group as the hub shows it (spec/03 6.2). */
export interface Group {
  readonly id: string;
  readonly name: string;
  readonly slug: string;
  readonly description?: string;
  readonly groupType: string;
  readonly projectId?: string;
  readonly ownerId?: string;
  readonly created: string;
}

export interface GroupMember {
  readonly groupId: string;
  readonly memberType: MemberType;
  readonly memberId: string;
  readonly role: MemberRole;
  readonly addedAt: string;
  readonly addedBy?: string;
  readonly displayName?: string;
}

/** Names one member of a group. */
export interface MemberKey {
  readonly memberType: MemberType;
  readonly memberId: string;
}

const PATH = "/api/v1/groups";

/** Groups, named by id or slug, and who is in them (spec/03 6.2). */
export class Groups {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  all(filter: { readonly projectId?: string | undefined } = {}): AsyncGenerator<Group> {
    return allOf(this.#http, { path: PATH, as: "groups", query: { ...filter, limit: 500 } });
  }

  get(group: string): Promise<Group> {
    return this.#http.json("GET", at(group));
  }

  create(group: { readonly name: string; readonly description?: string | undefined }): Promise<Group> {
    return this.#http.json("POST", PATH, { body: group });
  }

  delete(group: string): Promise<void> {
    return this.#http.done("DELETE", at(group));
  }

  members(group: string): AsyncGenerator<GroupMember> {
    return allOf(this.#http, { path: `${at(group)}/members`, as: "members", query: { limit: 1_000 } });
  }

  /** A person may be named by their address, a group by its slug. */
  addMember(group: string, member: MemberKey & { readonly role: MemberRole }): Promise<GroupMember> {
    return this.#http.json("POST", `${at(group)}/members`, { body: member });
  }

  changeRole(group: string, member: MemberKey, role: MemberRole): Promise<GroupMember> {
    return this.#http.json("PATCH", memberAt(group, member), { body: { role } });
  }

  removeMember(group: string, member: MemberKey): Promise<void> {
    return this.#http.done("DELETE", memberAt(group, member));
  }
}

const at = (group: string): string => `${PATH}/${encodeURIComponent(group)}`;
const memberAt = (group: string, { memberType, memberId }: MemberKey): string =>
  `${at(group)}/members/${memberType}/${encodeURIComponent(memberId)}`;
