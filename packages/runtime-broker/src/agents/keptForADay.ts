import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Base, Loop, type Service } from "@rootstock/service";
import type { z } from "zod";
import { makePrivateDirectory, readJson, removeAll, writeDurably } from "../files.ts";

/** How long an entry counts (spec/01 4.3, 4.4), in milliseconds. */
const DAY_MS = 24 * 3_600_000;
const SWEEP_MS = 3_600_000;

/** What is kept: when it was written, in milliseconds since 1970, and whatever else. */
interface Entry {
  readonly at: number;
}

export interface KeptForADayOptions<E extends Entry> {
  readonly directory: string;
  /** Said in the log. */
  readonly name: string;
  readonly schema: z.ZodType<E>;
  readonly keyOf: (entry: E) => string;
}

/** Entries by a key of any text, each in a private file of its own that survives a crash. */
export class KeptForADay<E extends Entry> implements Service {
  readonly #base: Base;
  readonly #options: KeptForADayOptions<E>;
  readonly #sweeps: Loop;

  constructor(base: Base, options: KeptForADayOptions<E>) {
    this.#base = base;
    this.#options = options;
    this.#sweeps = new Loop(base.log, `${options.name} sweep`, async (signal) => {
      while (!signal.aborted) {
        await this.sweep();
        await base.clock.sleep(SWEEP_MS, signal);
      }
    });
  }

  async start(): Promise<void> {
    await makePrivateDirectory(this.#options.directory);
    await this.#sweeps.start();
  }

  stop(): Promise<void> {
    return this.#sweeps.stop();
  }

  /** Undefined when there is none, or none that counts any more. */
  async get(key: string): Promise<E | undefined> {
    const entry = await this.#read(this.#file(key));
    return entry && this.#options.keyOf(entry) === key ? entry : undefined;
  }

  async put(entry: E): Promise<void> {
    await writeDurably(this.#file(this.#options.keyOf(entry)), JSON.stringify(entry));
  }

  async remove(key: string): Promise<void> {
    await removeAll(this.#file(key));
  }

  /** Removes what is too old to count. */
  async sweep(): Promise<void> {
    const { directory } = this.#options;
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      if (!(await this.#read(path))) await removeAll(path);
    }
  }

  async #read(path: string): Promise<E | undefined> {
    const entry = this.#options.schema.safeParse(await readJson(path));
    if (!entry.success || entry.data.at < this.#base.clock.now() - DAY_MS) return undefined;
    return entry.data;
  }

  #file(key: string): string {
    return join(this.#options.directory, `${createHash("sha256").update(key).digest("hex")}.json`);
  }
}
