import { type Base, Breather, SingleFlight } from "@rootstock/service";
import { EXPIRED, IDLE, TIME_LIMIT, type ViewerClose } from "./closeCodes.ts";

export interface SessionLimitsOptions {
  /** Milliseconds without a byte in either direction; 0: no limit. */
  readonly idleMs: number;
  /** Milliseconds in all; 0: no limit. */
  readonly limitMs: number;
  /** When nothing proves any more who looks, in milliseconds since 1970; never by default. */
  readonly until?: number | undefined;
  /** Asked every minute, and when rights have changed: why this session must end, if so. A rejection changes nothing. */
  readonly recheck: () => Promise<ViewerClose | undefined>;
}

const RECHECK_MS = 60_000;
/** So long, in milliseconds, do looks leave each other time at most, when rights change all the time. */
const MAX_RECHECK_PAUSE_MS = 500;

/** How long somebody may look at something: configured times, and whether they would be let in now. */
export class SessionLimits {
  readonly #base: Base;
  readonly #options: SessionLimitsOptions;
  readonly #end: (close: ViewerClose) => void;
  readonly #asking: SingleFlight;
  readonly #openedAt: number;
  #activeAt: number;
  #checkedAt: number;

  constructor(base: Base, options: SessionLimitsOptions, end: (close: ViewerClose) => void) {
    this.#base = base;
    this.#options = options;
    this.#end = end;
    this.#asking = new SingleFlight(
      () => this.#ask(),
      (err) => base.log.warn({ err }, "access to a stream not looked at again"),
      new Breather(base.clock, MAX_RECHECK_PAUSE_MS),
    );
    this.#openedAt = base.clock.elapsed();
    this.#activeAt = this.#openedAt;
    this.#checkedAt = this.#openedAt;
  }

  /** Something was typed or shown. */
  active(): void {
    this.#activeAt = this.#base.clock.elapsed();
  }

  /** `now`: the clock's `elapsed`. */
  tick(now: number): void {
    const { idleMs, limitMs, until } = this.#options;
    if (until !== undefined && this.#base.clock.now() >= until) this.#end(EXPIRED);
    else if (limitMs > 0 && now - this.#openedAt >= limitMs) this.#end(TIME_LIMIT);
    else if (idleMs > 0 && now - this.#activeAt >= idleMs) this.#end(IDLE);
    else if (now - this.#checkedAt >= RECHECK_MS) {
      this.recheck();
    }
  }

  /** Looks now whether the session may go on. */
  recheck(): void {
    this.#checkedAt = this.#base.clock.elapsed();
    void this.#asking.poke();
  }

  async #ask(): Promise<void> {
    const refusal = await this.#options.recheck();
    if (refusal) this.#end(refusal);
  }
}
