import type { Uuid } from "@rootstock/protocol";

/** What an event is about. */
export type EventEntity =
  | "agent"
  | "project"
  | "runtime_broker"
  | "provider"
  | "message"
  | "user"
  | "allow_list"
  | "invite"
  | "maintenance"
  | "access"
  | "credential"
  /** Who may read a project, or an agent by itself. For parts of the hub: no client is told. */
  | "sight";

/** A change as clients are told of it (spec/02 section 7): once per change and addressee. */
export interface HubEvent {
  /** All names under which it may be asked for, the most specific first. */
  readonly subjects: readonly string[];
  readonly data: Readonly<Record<string, unknown>>;
  readonly entity: EventEntity;
  readonly entityId: Uuid;
  readonly projectId?: Uuid;
  readonly agentId?: Uuid;
  /** Who owns what it is about. */
  readonly ownerId?: Uuid;
  /** Who sent it and to whom, for messages: people and agents. */
  readonly parties?: readonly Uuid[];
  /** Where it stands in the feed: the change it comes from, its transaction, and which of the change's events it is. */
  readonly origin: EventOrigin;
}

export interface EventOrigin {
  readonly changeId: string;
  readonly tx: bigint;
  /** Orders the events of one change; the same whenever and wherever the change is read. */
  readonly part: string;
  readonly lastOfChange: boolean;
}
