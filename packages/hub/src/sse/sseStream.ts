import type { Uuid } from "@rootstock/protocol";
import { type Base, SingleFlight, type Timer } from "@rootstock/service";
import type { ProjectResource } from "../auth/index.ts";
import type { HubEvent, Position, Snapshot } from "../bus/index.ts";

/** Why a stream ended. */
export type SseEnd =
  /** The client went away. */
  | "closed"
  /** It may not listen any more, or to something else. */
  | "refused"
  /** It took too little too slowly; it may resume. */
  | "overflow"
  /** Its time was over. */
  | "expired"
  /** The replica stops; it may resume at another one. */
  | "stopped";

export interface SseRequest {
  /** Checked patterns (spec/02 7.1). */
  readonly patterns: readonly string[];
  /** The last id that the client saw, whatever it is; undefined or empty: from now on. */
  readonly lastEventId?: string | undefined;
  /** Whether the client may hear of this event, asked each time one is to be sent. */
  readonly allow: (event: HubEvent) => boolean;
  /** Sends text; resolves when the client may be sent more. */
  readonly write: (text: string) => Promise<void>;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
  /**
   * Whether the client may go on, asked when the stream is there and whenever rights have changed by which it stands;
   * always by default.
   */
  readonly recheck?: () => Promise<boolean>;
  /** The people, agents and credentials that concern it; it is asked about for any where this is absent. */
  readonly standsBy?: ReadonlySet<Uuid>;
  /**
   * Told of a project that is new, or that others may read than before; of agents where it is absent. Whether the client
   * is to be looked at again for it; it is by default.
   */
  readonly sightChanged?: (project?: ProjectResource) => boolean;
  /** When nothing proves any more who listens, in milliseconds since 1970; never by default. */
  readonly until?: number | undefined;
  /** Called once when the stream is over, however it ended. */
  readonly onEnd?: () => void;
  /** Name and data of the frame of an event; `update` with subject and data by default. */
  readonly format?: (event: HubEvent, subject: string) => SseFrame;
  /** Milliseconds after which the stream is ended with `event: timeout`; never by default. */
  readonly expireAfterMs?: number;
}

/** The pause after each look at a stream, in milliseconds: rights that change all the time must not take all the time. */
const LOOK_PAUSE_MS = 500;

export interface SseFrame {
  readonly event: string;
  readonly data: string;
}

export interface SseLimits {
  readonly frames: number;
  readonly characters: number;
}

/** The queue of one client, between the replica's reader and a connection of any speed. */
export class SseStream {
  readonly request: SseRequest;
  /** What it has been told, while that is not simply what the replica's reader has read. */
  behind: { seen: Snapshot; told: Position } | undefined;
  readonly #clock: Base["clock"];
  readonly #limits: SseLimits;
  readonly #ending = new AbortController();
  #end: SseEnd | undefined;
  #queue: string[] = [];
  #characters = 0;
  #wake: (() => void) | undefined;
  readonly #looking: SingleFlight;
  readonly #firstLook = Promise.withResolvers<void>();
  #looked = false;

  constructor(request: SseRequest, base: Pick<Base, "clock" | "log">, limits: SseLimits) {
    this.request = request;
    this.#clock = base.clock;
    this.#looking = new SingleFlight(
      async () => {
        if (!this.#end && (await request.recheck?.()) === false) this.end("refused");
        this.#looked = true;
        this.#firstLook.resolve();
        await base.clock.sleep(LOOK_PAUSE_MS, this.ending);
      },
      (err) => {
        base.log.warn({ err }, "access to events not looked at");
        // Of a client that was never looked at nothing is known.
        if (!this.#looked) this.end("stopped");
        this.#firstLook.resolve();
      },
    );
    this.#limits = limits;
    if (request.signal.aborted) this.end("closed");
    else request.signal.addEventListener("abort", () => this.end("closed"), { once: true });
  }

  /** Why it ended; undefined while it has not. */
  ended(): SseEnd | undefined {
    return this.#end;
  }

  /** Aborts when it ends. */
  get ending(): AbortSignal {
    return this.#ending.signal;
  }

  /** Looks whether it may go on, once more if a look is under way. */
  recheck(): void {
    void this.#looking.poke();
  }

  /** Resolves when it has been looked at for the first time. */
  firstLook(): Promise<void> {
    this.recheck();
    return this.#firstLook.promise;
  }

  /** Whether `characters` more may be queued now. */
  hasRoom(characters: number): boolean {
    return this.#queue.length < this.#limits.frames && this.#characters + characters <= this.#limits.characters;
  }

  /** Adds to what the client is to be sent. One that does not take it is cut rather than left with a gap. */
  push(text: string): void {
    if (this.#end) return;
    if (!this.hasRoom(text.length)) {
      this.end("overflow");
      return;
    }
    this.#queue.push(text);
    this.#characters += text.length;
    this.#wake?.();
  }

  end(reason: SseEnd): void {
    if (this.#end) return;
    this.#end = reason;
    this.#ending.abort();
    this.#wake?.();
  }

  /** Sends everything queued; resolves early when the stream ends. */
  async flush(): Promise<void> {
    while (this.#queue.length > 0 && !this.#end) {
      const text = this.#queue.join("");
      this.#queue = [];
      this.#characters = 0;
      await this.#write(text);
    }
  }

  /** Resolves when something is queued, the stream ends, or `ms` have passed. */
  idle(ms: number): Promise<void> {
    if (this.#queue.length > 0 || this.#end) return Promise.resolve();
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const wake = () => {
        timer?.cancel();
        this.#wake = undefined;
        resolve();
      };
      timer = this.#clock.after(ms, wake);
      this.#wake = wake;
    });
  }

  /** A last word to a client that listens; not waited for. */
  farewell(text: string): void {
    if (this.#end !== "closed") void this.request.write(text).catch(() => {});
  }

  async #write(text: string): Promise<void> {
    let cut: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      cut = resolve;
      this.ending.addEventListener("abort", cut, { once: true });
    });
    try {
      await Promise.race([this.request.write(text), ended]);
    } catch {
      this.end("closed");
    } finally {
      this.ending.removeEventListener("abort", cut);
    }
  }
}
