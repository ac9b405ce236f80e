import { countChanges, currentPosition, type Db, readChanges } from "@rootstock/store";
import { BUSY_ENTITIES } from "./busy.ts";
import type { HubEvent } from "./hubEvent.ts";
import { EVERYTHING, type Wanted } from "./interest.ts";
import type { Position } from "./position.ts";
import { Projection } from "./projection.ts";
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
  /** How many changes were read; more than became events, or fewer. */
  readonly changes: number;
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

  /**
   * The events after `from` that are wanted: those of at most a page of changes, and of fewer than there are only if `to`
   * is within a page. `settle` is called with them in the moment for which the answers of `wanted` hold: whoever begins
   * to want something before that is heard.
   */
  async read(
    from: Position,
    wanted: Wanted = EVERYTHING.wanted,
    settle: (step: Step) => void = () => {},
  ): Promise<Step> {
    const { page } = from;
    const found = await readChanges(this.#db, {
      seen: from.seen.text,
      ...(page && { page: { target: page.target.text, afterId: page.id, inclusive: page.part !== undefined } }),
      limit: this.#pageSize,
    });
    const now = snapshotOf(found.now);
    const lost = lostBy(found, from, now);
    if (lost) return settled(lost, settle);
    const target = page?.target ?? now;
    const last = found.rows.at(-1);
    const to: Position =
      found.more && last
        ? { epoch: from.epoch, seen: from.seen, page: { target, id: last.id } }
        : { epoch: from.epoch, seen: target };
    const projection = new Projection(found.rows);
    // Looked at again after each reading, and nothing waited for after the last look.
    for (let needs = projection.missing(wanted); !needs.isEmpty; needs = projection.missing(wanted))
      await needs.read(this.#db);
    const events = projection.events(wanted).filter((e) => !isTold(e, from));
    const batch: Batch = { kind: "batch", from, target, events, to };
    return settled({ outcome: batch, changes: found.rows.length, lagMs: found.oldestMs }, settle);
  }

  /**
   * As `read` when nobody wants anything of the busy entities: the way past their changes, without them. Undefined when
   * there are others among them. Not from within a page.
   */
  async pass(from: Position): Promise<Step | undefined> {
    const found = await countChanges(this.#db, { seen: from.seen.text, entities: BUSY_ENTITIES });
    const target = snapshotOf(found.now);
    const to: Position = { epoch: from.epoch, seen: target };
    const lost = lostBy(found, from, target);
    if (lost || found.others) return lost;
    return {
      outcome: { kind: "batch", from, target, events: [], to },
      changes: found.count,
      lagMs: found.oldestMs,
    };
  }
}

/** The step that says that the position is lost, if it is. */
const lostBy = (
  found: { readonly epoch: string; readonly future: boolean; readonly pruned: boolean },
  from: Position,
  now: Snapshot,
): Step | undefined => {
  const reason = found.epoch !== from.epoch ? "epoch" : found.future ? "future" : found.pruned ? "pruned" : undefined;
  if (!reason) return undefined;
  return { outcome: { kind: "resync", reason, to: { epoch: found.epoch, seen: now } }, changes: 0, lagMs: 0 };
};

const settled = (step: Step, settle: (step: Step) => void): Step => {
  settle(step);
  return step;
};

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
