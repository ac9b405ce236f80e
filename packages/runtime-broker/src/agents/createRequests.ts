import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Base, Loop, type Service } from "@rootstock/service";
import { z } from "zod";
import { makePrivateDirectory, readJson, removeAll, writeDurably } from "../files.ts";
import type { OperationAnswer } from "../tunnel/answer.ts";

/** How long a create is answered from memory (spec/01 4.3). */
export const CREATE_MEMORY_MS = 24 * 3_600_000;
const SWEEP_MS = 3_600_000;

const entrySchema = z.object({ requestId: z.string(), at: z.number(), status: z.number(), json: z.unknown() });

/**
 * Answers of create calls by their `requestId`, on disk. Only successes are kept: a failed attempt runs again, and one that
 * a crash cut off is settled by its agent's record, which names the request that made it.
 */
export class CreateRequests implements Service {
  readonly #base: Base;
  readonly #directory: string;
  readonly #sweeps: Loop;

  constructor(base: Base, stateDirectory: string) {
    this.#base = base;
    this.#directory = join(stateDirectory, "create-requests");
    this.#sweeps = new Loop(base.log, "create request sweep", async (signal) => {
      while (!signal.aborted) {
        await this.sweep();
        await base.clock.sleep(SWEEP_MS, signal);
      }
    });
  }

  async start(): Promise<void> {
    await makePrivateDirectory(this.#directory);
    await this.#sweeps.start();
  }

  stop(): Promise<void> {
    return this.#sweeps.stop();
  }

  /** The answer that this request got before, undefined when it has none. */
  async answered(requestId: string): Promise<OperationAnswer | undefined> {
    const entry = entrySchema.safeParse(await readJson(this.#file(requestId)));
    if (!entry.success || entry.data.requestId !== requestId || this.#expired(entry.data.at)) return undefined;
    return { status: entry.data.status, json: entry.data.json };
  }

  async remember(requestId: string, answer: OperationAnswer): Promise<void> {
    const entry = { requestId, at: this.#base.clock.now(), status: answer.status, json: answer.json };
    await writeDurably(this.#file(requestId), JSON.stringify(entry));
  }

  /** Removes what is too old to count. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      const entry = entrySchema.safeParse(await readJson(join(this.#directory, name)));
      if (!entry.success || this.#expired(entry.data.at)) await removeAll(join(this.#directory, name));
    }
  }

  #expired(at: number): boolean {
    return at < this.#base.clock.now() - CREATE_MEMORY_MS;
  }

  #file(requestId: string): string {
    return join(this.#directory, `${createHash("sha256").update(requestId).digest("hex")}.json`);
  }
}
