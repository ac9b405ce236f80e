import { createHash } from "node:crypto";
import { HubError, type Uuid } from "@rootstock/protocol";
import { type Base, Batcher, type Service, type Timer } from "@rootstock/service";
import { type Db, type HeldStreams, holdStreams } from "@rootstock/store";
import { countedAs, DEVELOPMENT_USER, type Principal } from "../auth/index.ts";

export interface OpenStreamsOptions {
  readonly db: Db;
  readonly instanceId: Uuid;
  /** So many may be open for one principal at all replicas together; undefined: any number. */
  readonly most: number | undefined;
  /** Called for each refusal. */
  readonly refused: () => void;
}

/** Of one who holds streams: one more, or only that the number is another one. */
interface Change {
  readonly whom: string;
  readonly opens: boolean;
}

/** Gives back what was held; the second time it does nothing. */
export type Release = () => void;

const BATCH = { windowMs: 0, maxItems: 500, concurrency: 1 };
/** When to tell again what the database was not told, in milliseconds. */
const AGAIN_MS = 2_000;
const RETRY_AFTER_SECONDS = 5;

/**
 * How many streams (events, followed logs, terminals) each holds open, counted by all replicas together. Opening one is one
 * statement, or part of one where many do it at once; what an open stream carries costs nothing. Each replica says how many
 * it holds in all, not how many more: what was not heard is made good with the next word, and a replica that is gone has
 * none.
 */
export class OpenStreams implements Service {
  readonly #base: Base;
  readonly #options: OpenStreamsOptions;
  readonly #held = new Map<string, number>();
  readonly #changes: Batcher<Change, boolean>;
  /** Of whom the database may know another number. */
  readonly #untold = new Set<string>();
  #again: Timer | undefined;
  #stopped = false;

  constructor(base: Base, options: OpenStreamsOptions) {
    this.#base = base;
    this.#options = options;
    // One batch at a time: a number that is told later is the later one.
    this.#changes = new Batcher(base.clock, BATCH, (changes) => this.#tell(changes));
  }

  async start(): Promise<void> {
    this.#stopped = false;
  }

  /** Resolves when nothing is asked of the database any more. What is held counts no longer once the replica is gone. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#again?.cancel();
    await this.#changes.idle();
  }

  /** How many are held here, by everybody who is counted. */
  get size(): number {
    let all = 0;
    for (const held of this.#held.values()) all += held;
    return all;
  }

  /**
   * Takes one for the principal: whoever opens a stream, whatever token says so. Throws 429 `too_many_streams`. When the
   * database does not answer nobody is refused.
   */
  async hold(principal: Principal): Promise<Release> {
    const { most, refused } = this.#options;
    const whom = whomOf(principal);
    if (most === undefined || whom === undefined) return () => {};
    if (!(await this.#change({ whom, opens: true }))) {
      refused();
      throw new HubError("too_many_streams", `at most ${most} streams may be open at once; close some`, {
        retryAfter: RETRY_AFTER_SECONDS,
        details: { limit: "streams", max: most },
      });
    }
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#add(whom, -1);
      if (!this.#stopped) void this.#change({ whom, opens: false });
    };
  }

  /** To be called when this replica was taken for gone: what it holds was counted no longer, and may be forgotten. */
  tellAnew(): void {
    for (const whom of this.#held.keys()) this.#untold.add(whom);
    this.#tellUntold();
  }

  #change(change: Change): Promise<boolean> {
    return this.#changes.add(change);
  }

  #add(whom: string, amount: number): void {
    const held = (this.#held.get(whom) ?? 0) + amount;
    if (held > 0) this.#held.set(whom, held);
    else this.#held.delete(whom);
  }

  async #tell(changes: readonly Change[]): Promise<readonly boolean[]> {
    const wanted = new Map<string, number>();
    for (const { whom, opens } of changes) wanted.set(whom, (wanted.get(whom) ?? 0) + (opens ? 1 : 0));
    for (const whom of this.#untold) {
      if (wanted.size >= BATCH.maxItems) break;
      if (!wanted.has(whom)) wanted.set(whom, 0);
    }
    const left = await this.#ask(wanted);
    return changes.map(({ whom, opens }) => {
      const granted = left.get(whom) ?? 0;
      if (!opens || granted === 0) return !opens;
      left.set(whom, granted - 1);
      this.#add(whom, 1);
      return true;
    });
  }

  /** How many more each is given. */
  async #ask(wanted: ReadonlyMap<string, number>): Promise<Map<string, number>> {
    const holdings = [...wanted].map(([whom, more]) => ({ whom, more, kept: this.#held.get(whom) ?? 0 }));
    try {
      const granted = await this.#granted(holdings);
      for (const whom of wanted.keys()) this.#untold.delete(whom);
      if (this.#untold.size > 0) this.#tellAgain();
      return new Map(holdings.map(({ whom }, index) => [whom, granted[index] ?? 0]));
    } catch (err) {
      this.#base.log.warn({ err }, "open streams not counted");
      for (const whom of wanted.keys()) this.#untold.add(whom);
      this.#tellAgain();
      return new Map(wanted);
    }
  }

  /** Who is left without looks a second time, for what died with a replica a moment ago: its clients are back at once. */
  async #granted(holdings: readonly HeldStreams[]): Promise<readonly number[]> {
    const { db, instanceId, most = 0 } = this.#options;
    const granted = await holdStreams(db, { instanceId, most }, holdings);
    const given = holdings.map((holding, index) => ({ ...holding, given: granted[index] ?? 0 }));
    const short = given.filter((h) => h.given < h.more);
    if (short.length === 0) return granted;
    const rest = short.map((h) => ({ whom: h.whom, kept: h.kept + h.given, more: h.more - h.given }));
    const added = await holdStreams(db, { instanceId, most, withoutDying: true }, rest);
    const extra = new Map(short.map((h, index) => [h.whom, added[index] ?? 0]));
    return given.map((h) => h.given + (extra.get(h.whom) ?? 0));
  }

  #tellAgain(): void {
    if (this.#stopped) return;
    this.#again ??= this.#base.clock.after(AGAIN_MS, () => {
      this.#again = undefined;
      this.#tellUntold();
    });
  }

  /** With one of them goes as much of the rest as one statement takes. */
  #tellUntold(): void {
    const [whom] = this.#untold;
    if (whom !== undefined && !this.#stopped) void this.#change({ whom, opens: false });
  }
}

/** By whom a stream is counted, as a digest; undefined for those who are not. All tokens of a person are that person. */
const whomOf = (principal: Principal): string | undefined => {
  if (principal.kind !== "user" && principal.kind !== "agent") return undefined;
  // One token for everybody, on machines of developers.
  if (principal.kind === "user" && principal.id === DEVELOPMENT_USER.id) return undefined;
  return createHash("sha256").update(countedAs(principal)).digest("base64url").slice(0, 22);
};
