import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Base, Loop, type Service } from "@rootstock/service";
import { z } from "zod";
import { makePrivateDirectory, readJson, removeAll, writeDurably } from "../files.ts";
import { type CreatePayload, createPayload } from "./createPayload.ts";
import { CREATE_MEMORY_MS } from "./createRequests.ts";

const SWEEP_MS = 3_600_000;

const entrySchema = z.object({ agentId: z.string(), at: z.number(), payload: createPayload });

/** Creates that wait for values from the person's environment (spec/01 4.4), on disk for 24 hours; they hold secrets. */
export class PendingCreates implements Service {
  readonly #base: Base;
  readonly #directory: string;
  readonly #sweeps: Loop;

  constructor(base: Base, stateDirectory: string) {
    this.#base = base;
    this.#directory = join(stateDirectory, "pending-creates");
    this.#sweeps = new Loop(base.log, "pending create sweep", async (signal) => {
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

  async put(agentId: string, payload: CreatePayload): Promise<void> {
    await writeDurably(this.#file(agentId), JSON.stringify({ agentId, at: this.#base.clock.now(), payload }));
  }

  async get(agentId: string): Promise<CreatePayload | undefined> {
    const entry = entrySchema.safeParse(await readJson(this.#file(agentId)));
    if (!entry.success || entry.data.agentId !== agentId || this.#expired(entry.data.at)) return undefined;
    return entry.data.payload;
  }

  async remove(agentId: string): Promise<void> {
    await removeAll(this.#file(agentId));
  }

  /** Removes what nobody has finished in time. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      const entry = entrySchema.safeParse(await readJson(join(this.#directory, name)));
      if (!entry.success || this.#expired(entry.data.at)) await removeAll(join(this.#directory, name));
    }
  }

  #expired(at: number): boolean {
    return at < this.#base.clock.now() - CREATE_MEMORY_MS;
  }

  #file(agentId: string): string {
    return join(this.#directory, `${createHash("sha256").update(agentId).digest("hex")}.json`);
  }
}
