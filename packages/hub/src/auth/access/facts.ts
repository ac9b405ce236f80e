import type { Uuid } from "@rootstock/protocol";
import type { GroupRole } from "@rootstock/store";
import type { Policy } from "./policies.ts";

/** What the access decision must be told beyond principal and resource. */
export interface Facts {
  readonly rights: Rights;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** From where the call comes; undefined or empty where nobody knows. */
  readonly address: string | undefined;
}

/** What groups and policies give a principal. */
export interface Rights {
  /** Every group that it is in, directly or through others. */
  readonly groups: readonly GroupFact[];
  /** Projects that it runs: a direct owner or admin of a group of theirs. */
  readonly managed: ReadonlySet<Uuid>;
  /** Projects that it is a member of in any way, those included. */
  readonly joined: ReadonlySet<Uuid>;
  /** The policies that reach it, in the order in which they decide: the first that matches wins. */
  readonly policies: readonly Policy[];
  /** Equal exactly if everything else is. */
  readonly stamp: string;
}

export interface GroupFact {
  readonly id: Uuid;
  readonly slug: string;
  readonly projectId: Uuid | null;
  /** Its own membership's; null where it is in the group through another one. */
  readonly role: GroupRole | null;
}

/** Of whom nothing is known: no groups, no policies. */
export const NO_RIGHTS: Rights = { groups: [], managed: new Set(), joined: new Set(), policies: [], stamp: "" };
export const NO_FACTS: Facts = { rights: NO_RIGHTS, now: 0, address: undefined };
