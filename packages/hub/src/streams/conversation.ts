import type { Clock } from "@rootstock/service";
import type { StreamFrameRow } from "@rootstock/store";
import { type Mailbox, Thread } from "./mailbox.ts";

/** An end that has nothing to say says so, for the other to know that it is there and what it must have had. */
export const BEAT_MS = 3_000;
const SILENCE_MS = 10_000;

/** What a frame was: the next one, one that came before, or one after something that was lost. */
export type Arrival = "next" | "repeated" | "gap";

/** One stream between this replica and another through the database: numbers, signs of life. */
export class Conversation {
  readonly thread: Thread;
  readonly #mailbox: Pick<Mailbox, "send">;
  readonly #clock: Clock;
  #expected = 0;
  #heardAt: number;
  #spokeAt: number;

  constructor(clock: Clock, mailbox: Pick<Mailbox, "send">, to: string, streamId: string) {
    this.#clock = clock;
    this.#mailbox = mailbox;
    this.thread = new Thread(to, streamId);
    this.#heardAt = clock.elapsed();
    this.#spokeAt = this.#heardAt;
  }

  say(kind: string, body?: Buffer | object): void {
    this.#spokeAt = this.#clock.elapsed();
    const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    this.#mailbox.send(this.thread, kind, bytes);
  }

  hear(frame: StreamFrameRow): Arrival {
    this.#heardAt = this.#clock.elapsed();
    if (frame.seq < this.#expected) return "repeated";
    if (frame.seq > this.#expected) return "gap";
    this.#expected += 1;
    return "next";
  }

  /** How long nothing was heard, in milliseconds. `now`: the clock's `elapsed`. */
  silentMs(now: number): number {
    return now - this.#heardAt;
  }

  /** Whether the other end still counts as there. `now`: the clock's `elapsed`. */
  tick(now: number): boolean {
    if (now - this.#spokeAt >= BEAT_MS) this.say("beat");
    return this.silentMs(now) <= SILENCE_MS;
  }
}
