import type { Base, Service } from "@rootstock/service";
import type { Batch, Resync } from "./changeFeed.ts";
import { ChangeReader, type ChangeReaderOptions, type ReaderStats } from "./changeReader.ts";
import type { HubEvent } from "./hubEvent.ts";
import { EVERYTHING, type Interest } from "./interest.ts";
import type { Position } from "./position.ts";
import { SubjectIndex } from "./subjects.ts";

type Subscriber = (event: HubEvent, subject: string) => void;

/**
 * Every change of the hub, whichever replica made it, for parts of this replica: at first hand from its one reader, in
 * order, each once, from the moment of subscription. Who must miss nothing across restarts resumes by position instead.
 */
export class EventBus implements Service {
  readonly #log: Base["log"];
  readonly #reader: ChangeReader;
  readonly #subscribers = new SubjectIndex<{ readonly fn: Subscriber }>();
  #off: (() => void) | undefined;

  constructor(base: Base, options: ChangeReaderOptions) {
    this.#log = base.log;
    this.#reader = new ChangeReader(base, options);
  }

  /**
   * Calls `fn` for each event with a subject that one of `patterns` stands for, until the returned function is called.
   * An event that several patterns stand for comes once.
   */
  subscribe(patterns: readonly string[], fn: Subscriber): () => void {
    return this.#subscribers.add(patterns, { fn });
  }

  /**
   * What the reader reads, batch by batch, with positions. Of the events, those that `interest` wants by then, perhaps
   * with others: what nobody wants is not made.
   */
  onOutcome(fn: (outcome: Batch | Resync) => void, interest: Interest = EVERYTHING): () => void {
    return this.#reader.onOutcome(fn, interest);
  }

  /** Up to where this replica has read. */
  position(): Position {
    return this.#reader.position();
  }

  /** Resolves when everything committed before this call has been told. */
  catchUp(): Promise<void> {
    return this.#reader.poke();
  }

  stats(): ReaderStats {
    return this.#reader.stats();
  }

  async start(): Promise<void> {
    this.#off ??= this.#reader.onOutcome((outcome) => {
      if (outcome.kind === "batch") for (const event of outcome.events) this.#tell(event);
    }, this.#subscribers.interest);
    await this.#reader.start();
  }

  stop(): Promise<void> {
    return this.#reader.stop();
  }

  #tell(event: HubEvent): void {
    for (const [{ fn }, subject] of this.#subscribers.find(event.subjects)) {
      try {
        fn(event, subject);
      } catch (err) {
        this.#log.error({ err, subject }, "event subscriber failed");
      }
    }
  }
}
