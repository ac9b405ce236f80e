import { currentPosition, type Db, readChanges } from "@rootstock/store";
import type { HubEvent } from "./hubEvent.ts";
import type { Position } from "./position.ts";
import { project } from "./projection.ts";
import { parseSnapshot, type Snapshot } from "./snapshot.ts";

/** Why a position cannot be read on from: the log was pruned past it, belongs to another history, or is behind it. */
export type ResyncReason = "pruned" | "epoch" | "future";

/** Consecutive events, and the positions on both sides. */
export interface Batch {
  readonly kind: "batch";
  readonly from: Position;
  /** The snapshot in which they were read. */
  readonly target: Snapshot;
  readonly events: readonly HubEvent[];
  /** After them: `target` itself, or the place within it where the next page begins. */
  readonly to: Position;
}

/** The position is lost; reading goes on from `to`, which is now. */
export interface Resync {
  readonly kind: "resync";
  readonly reason: ResyncReason;
  readonly to: Position;
}

export interface Step {
  readonly outcome: Batch | Resync;
  /** How old the oldest change in it was when it was read, in milliseconds; 0 without changes. */
  readonly lagMs: number;
}

const PAGE = 500;

/** Reads the events after any position, for the replica's reader and for clients that resume. */
export class ChangeFeed {
  readonly #db: Db;
  readonly #pageSize: number;

  constructor(db: Db, pageSize = PAGE) {
    this.#db = db;
    this.#pageSize = pageSize;
  }

  /** The position of now. */
  async head(): Promise<Position> {
    const { epoch, seen } = await currentPosition(this.#db);
    return { epoch, seen: snapshotOf(seen) };
  }

  /** The events after `from`: at most a page, and fewer than there are only if `to` is within a page. */
  async read(from: Position): Promise<Step> {
    const { page } = from;
    const found = await readChanges(this.#db, {
      seen: from.seen.text,
      ...(page && { page: { target: page.target.text, afterId: page.id, inclusive: page.part !== undefined } }),
      limit: this.#pageSize,
    });
    const now = snapshotOf(found.now);
    const reason = found.epoch !== from.epoch ? "epoch" : found.future ? "future" : found.pruned ? "pruned" : undefined;
    if (reason) return { outcome: { kind: "resync", reason, to: { epoch: found.epoch, seen: now } }, lagMs: 0 };
    const events = (await project(this.#db, found.rows)).filter((e) => !isTold(e, from));
    const target = page?.target ?? now;
    const last = found.rows.at(-1);
    const to: Position =
      found.more && last
        ? { epoch: from.epoch, seen: from.seen, page: { target, id: last.id } }
        : { epoch: from.epoch, seen: target };
    return {
      outcome: { kind: "batch", from, target, events, to },
      lagMs: found.rows.reduce((oldest, row) => Math.max(oldest, row.ageMs), 0),
    };
  }
}

/** Whether the event is one of the first of a change that `from` lies within. */
const isTold = ({ origin }: HubEvent, from: Position): boolean =>
  from.page?.part !== undefined && origin.changeId === from.page.id && origin.part <= from.page.part;

/**
 * The position after the event at `index` of the batch, for somebody who had been told everything of `seen` before the
 * batch began.
 */
export const positionAfter = (batch: Batch, index: number, seen: Snapshot = batch.from.seen): Position => {
  const { from, target, events, to } = batch;
  const event = events[index];
  if (!event || (index === events.length - 1 && !to.page)) return to.page ? { ...to, seen } : to;
  const { changeId: id, part, lastOfChange } = event.origin;
  return { epoch: from.epoch, seen, page: { target, id, ...(!lastOfChange && { part }) } };
};

const snapshotOf = (text: string): Snapshot => {
  const snapshot = parseSnapshot(text);
  if (!snapshot) throw new Error("the database gave a snapshot that cannot be read");
  return snapshot;
};
