import { type Clock, type Log, Loop, type Service, type Timer } from "@rootstock/service";
import pg from "pg";

/** The database takes connections and statements, and answers nothing. Nothing was sent. */
export class DatabaseSilentError extends Error {
  override readonly name = "DatabaseSilentError";
  constructor() {
    super("the database does not answer");
  }
}

interface Asked {
  readonly since: number;
  /** Ends the connection, so that whoever waits hears of it: the server may still carry the statement out. */
  readonly giveUp: () => void;
}

export interface AnswersOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Asks something that any living database answers at once. Rejects when it does not. */
  readonly probe: () => Promise<void>;
  /** Milliseconds without any answer, something being asked, after which the database counts as silent. */
  readonly silentAfterMs: number;
  /** Milliseconds that one statement may take while others are answered. */
  readonly statementLimitMs: number;
}

const LOOK_EVERY_MS = 500;
/** A look that comes so late says that this process stood still: answers may have come that it has not read yet. */
const LATE_MS = 1_500;

/**
 * Whether the database answers, noticed from what is asked of it anyway. One that hangs keeps connections open and takes
 * new ones: without this, callers wait for it longer than anybody waits for them, and more come all the time. Once it has
 * been silent for long enough, what is out is given up, and nothing more is sent until a probe returns.
 */
export class Answers implements Service {
  readonly #options: AnswersOptions;
  readonly #out = new Set<Asked>();
  readonly #probing: Loop;
  #heardAt: number;
  #lookAt = 0;
  #silent = false;
  #timer: Timer | undefined;

  constructor(options: AnswersOptions) {
    this.#options = options;
    this.#heardAt = options.clock.elapsed();
    this.#probing = new Loop(options.log, "database probe", (signal) => this.#probe(signal));
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#probing.stop();
  }

  /** Whether it has been silent for so long that nothing is sent any more. */
  get silent(): boolean {
    return this.#silent;
  }

  /** For how long something has been asked without any answer, in milliseconds; 0 when nothing is asked. */
  silentForMs(): number {
    const [oldest] = this.#out;
    if (!oldest) return this.#silent ? this.#options.silentAfterMs : 0;
    return this.#options.clock.elapsed() - Math.max(oldest.since, this.#heardAt);
  }

  /** Throws {@link DatabaseSilentError} while nothing is sent. */
  refuseWhenSilent(): void {
    if (this.#silent) throw new DatabaseSilentError();
  }

  /**
   * Sends something with `send`, which rejects once `giveUp` has ended its connection. Throws
   * {@link DatabaseSilentError}, nothing sent, while nothing is.
   */
  watch<T>(send: () => Promise<T>, giveUp: () => void): Promise<T> {
    if (this.#silent) {
      giveUp();
      return Promise.reject(new DatabaseSilentError());
    }
    const asked = { since: this.#options.clock.elapsed(), giveUp };
    this.#out.add(asked);
    if (!this.#timer) this.#lookLater();
    return send().then(
      (answer) => {
        this.#out.delete(asked);
        this.#heardAt = this.#options.clock.elapsed();
        return answer;
      },
      (err: unknown) => {
        this.#out.delete(asked);
        // An error of the server's is an answer as well.
        if (err instanceof pg.DatabaseError) this.#heardAt = this.#options.clock.elapsed();
        throw err;
      },
    );
  }

  #lookLater(): void {
    const { clock } = this.#options;
    this.#lookAt = clock.elapsed() + LOOK_EVERY_MS;
    this.#timer = clock.after(LOOK_EVERY_MS, () => this.#look());
  }

  #look(): void {
    this.#timer = undefined;
    if (this.#out.size === 0) return;
    const { clock, log, silentAfterMs, statementLimitMs } = this.#options;
    const now = clock.elapsed();
    const late = now - this.#lookAt > LATE_MS;
    this.#lookLater();
    if (late) {
      this.#heardAt = now;
      return;
    }
    // The oldest comes first: a set keeps the order in which things were added.
    for (const asked of this.#out) {
      if (now - asked.since < statementLimitMs) break;
      log.warn({ ms: Math.round(now - asked.since) }, "a statement was given up: no answer");
      this.#giveUp(asked);
    }
    const silentForMs = this.silentForMs();
    if (this.#silent || this.#out.size === 0 || silentForMs < silentAfterMs) return;
    this.#silent = true;
    log.warn({ ms: Math.round(silentForMs), statements: this.#out.size }, "the database does not answer");
    for (const asked of [...this.#out]) this.#giveUp(asked);
    void this.#probing.start();
  }

  #giveUp(asked: Asked): void {
    this.#out.delete(asked);
    asked.giveUp();
  }

  async #probe(signal: AbortSignal): Promise<void> {
    const { clock, log, probe } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(LOOK_EVERY_MS, signal);
      if (signal.aborted) return;
      try {
        await probe();
        break;
      } catch (err) {
        log.debug({ err }, "the database still does not answer");
      }
    }
    if (signal.aborted) return;
    this.#heardAt = clock.elapsed();
    this.#silent = false;
    log.info({}, "the database answers again");
    // Started anew by the next silence: a loop that has ended by itself must be stopped before it can be.
    void this.#probing.stop();
  }
}
