import { type FileHandle, open } from "node:fs/promises";
import type { Clock } from "@rootstock/service";
import { readIfPresent, writeDurably } from "../files.ts";

export interface IdLogOptions {
  readonly file: string;
  /** How many ids are kept at most; the oldest go first. */
  readonly maxIds: number;
  readonly maxAgeMs: number;
  /** Whether `add` resolves only once the id would survive a power failure. */
  readonly durable: boolean;
}

/** Ids that messages may have: no white space, so that a line of the file is one id. */
export const MESSAGE_ID = /^[\x21-\x7e]{1,200}$/;
const LINE = /^(\d{1,15}) ([\x21-\x7e]{1,200})$/;

/**
 * A set of ids that survives the process: one line each, appended. A line that a crash cut short is skipped. Rewritten
 * once it holds twice as many lines as it may keep.
 */
export class IdLog {
  readonly #options: IdLogOptions;
  readonly #clock: Clock;
  /** Id to the time it was added, oldest first. */
  #ids = new Map<string, number>();
  #lines = 0;
  #handle: FileHandle | undefined;
  #loaded: Promise<void> | undefined;

  constructor(clock: Clock, options: IdLogOptions) {
    this.#clock = clock;
    this.#options = options;
  }

  async has(id: string): Promise<boolean> {
    await this.#load();
    const addedAt = this.#ids.get(id);
    return addedAt !== undefined && addedAt > this.#clock.now() - this.#options.maxAgeMs;
  }

  /** To be called one at a time. */
  async add(id: string): Promise<void> {
    await this.#load();
    const now = this.#clock.now();
    if (this.#lines >= 2 * this.#options.maxIds) await this.#rewrite(now);
    this.#handle ??= await open(this.#options.file, "a", 0o600);
    // The leading line end closes a line that a crash may have cut short.
    await this.#handle.appendFile(`\n${now} ${id}\n`);
    if (this.#options.durable) await this.#handle.datasync();
    this.#lines += 1;
    this.#ids.delete(id);
    this.#ids.set(id, now);
    for (const oldest of this.#ids.keys()) {
      if (this.#ids.size <= this.#options.maxIds) break;
      this.#ids.delete(oldest);
    }
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
  }

  #load(): Promise<void> {
    this.#loaded ??= (async () => {
      const text = (await readIfPresent(this.#options.file)) ?? "";
      for (const line of text.split("\n")) {
        const [, at, id] = LINE.exec(line) ?? [];
        if (at === undefined || id === undefined) continue;
        this.#lines += 1;
        this.#ids.delete(id);
        this.#ids.set(id, Number(at));
      }
    })();
    return this.#loaded;
  }

  async #rewrite(now: number): Promise<void> {
    await this.close();
    this.#ids = new Map([...this.#ids].filter(([, at]) => at > now - this.#options.maxAgeMs));
    await writeDurably(this.#options.file, [...this.#ids].map(([id, at]) => `${at} ${id}\n`).join(""));
    this.#lines = this.#ids.size;
  }
}
