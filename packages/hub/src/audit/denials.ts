import type { Base } from "@rootstock/service";
import { type AuditEvent, currentActor, type Db, recordAudit } from "@rootstock/store";

export interface DenialsOptions {
  readonly db: Db;
  /** Called for each refusal that is not recorded. */
  readonly onUnrecorded: () => void;
}

/** So many refusals of one kind from one address are recorded at once; then one in so many milliseconds. */
const BURST = 10;
const PAUSE_MS = 6_000;
/** The same for all addresses together: somebody may have many. */
const BURST_OF_ALL = 200;
const PAUSE_OF_ALL_MS = 500;
const MOST_KEPT = 10_000;

/** A bucket from which each taking takes one; full again after a while. */
interface Bucket {
  /** When it would be full, in milliseconds of the monotonic clock. */
  fullAt: number;
  unrecorded: number;
}

/**
 * Records refusals. Whoever guesses makes thousands a second: what is beyond a few from one address is counted, and the
 * next row that is written says how many were not. The bounds hold for each replica.
 */
export class Denials {
  readonly #base: Base;
  readonly #options: DenialsOptions;
  readonly #buckets = new Map<string, Bucket>();
  readonly #all: Bucket = { fullAt: 0, unrecorded: 0 };

  constructor(base: Base, options: DenialsOptions) {
    this.#base = base;
    this.#options = options;
  }

  /** Records the refusal on behalf of who acts now, or counts it. Never rejects. */
  async record(event: Omit<AuditEvent, "success">): Promise<void> {
    const bucket = this.#bucketOf(`${event.action} ${currentActor()?.address ?? ""}`);
    const now = this.#base.clock.elapsed();
    if (!hasOne(bucket, now, BURST, PAUSE_MS) || !hasOne(this.#all, now, BURST_OF_ALL, PAUSE_OF_ALL_MS)) {
      bucket.unrecorded += 1;
      this.#options.onUnrecorded();
      return;
    }
    take(bucket, now, PAUSE_MS);
    take(this.#all, now, PAUSE_OF_ALL_MS);
    const { unrecorded } = bucket;
    bucket.unrecorded = 0;
    try {
      await recordAudit(this.#options.db, {
        ...event,
        success: false,
        details: { ...event.details, ...(unrecorded > 0 && { unrecorded }) },
      });
    } catch (err) {
      this.#options.onUnrecorded();
      this.#base.log.warn({ err, action: event.action }, "refusal not recorded");
    }
  }

  #bucketOf(key: string): Bucket {
    const bucket = this.#buckets.get(key) ?? { fullAt: 0, unrecorded: 0 };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > MOST_KEPT)
      for (const oldest of this.#buckets.keys()) {
        this.#buckets.delete(oldest);
        break;
      }
    return bucket;
  }
}

const hasOne = (bucket: Bucket, now: number, burst: number, pauseMs: number): boolean =>
  Math.max(bucket.fullAt, now) - now <= (burst - 1) * pauseMs;

const take = (bucket: Bucket, now: number, pauseMs: number): void => {
  bucket.fullAt = Math.max(bucket.fullAt, now) + pauseMs;
};
