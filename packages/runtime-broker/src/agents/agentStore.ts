import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Base, Service } from "@rootstock/service";
import { makePrivateDirectory, readJson, removeAll, writeDurably } from "../files.ts";
import { BrokerApiError } from "../tunnel/errors.ts";
import {
  type AgentEnvironment,
  type AgentRecord,
  agentDirectory,
  agentEnvironmentSchema,
  agentRecordSchema,
} from "./agentRecord.ts";

/** The agents of this runtime broker: in memory, and each in its own directory on disk. */
export class AgentStore implements Service {
  readonly #base: Base;
  readonly #stateDirectory: string;
  readonly #records = new Map<string, AgentRecord>();

  constructor(base: Base, stateDirectory: string) {
    this.#base = base;
    this.#stateDirectory = stateDirectory;
  }

  async start(): Promise<void> {
    const root = join(this.#stateDirectory, "agents");
    await makePrivateDirectory(root);
    for (const key of await readdir(root)) {
      const parsed = agentRecordSchema.safeParse(await readJson(join(root, key, "agent.json")));
      if (parsed.success && parsed.data.key === key) this.#records.set(key, parsed.data);
      else this.#base.log.debug({ key }, "a directory without an agent's record");
    }
  }

  async stop(): Promise<void> {
    this.#records.clear();
  }

  all(): readonly AgentRecord[] {
    return [...this.#records.values()];
  }

  get(key: string): AgentRecord | undefined {
    return this.#records.get(key);
  }

  /**
   * The agent that `name` means within `projectId` (any project when empty): its slug, name, id or container.
   * @throws BrokerApiError 400 when agents of several projects are meant
   */
  find(name: string, projectId: string, sessionIds?: ReadonlyMap<string, string>): AgentRecord | undefined {
    const wanted = name.toLowerCase();
    const found = this.all().filter(
      (record) =>
        (projectId === "" || record.projectId === projectId) &&
        (record.slug.toLowerCase() === wanted ||
          record.name.toLowerCase() === wanted ||
          record.id === wanted ||
          (wanted.length >= 12 && sessionIds?.get(record.key)?.startsWith(wanted))),
    );
    if (found.length > 1) {
      throw new BrokerApiError("validation_error", `several projects have an agent "${name}": projectId is required`, {
        details: { field: "projectId" },
      });
    }
    return found[0];
  }

  /** Writes the record; `updatedAt` becomes now. */
  async put(record: AgentRecord): Promise<AgentRecord> {
    const stored = { ...record, updatedAt: this.#base.clock.now() };
    const directory = agentDirectory(this.#stateDirectory, record.key);
    await makePrivateDirectory(directory);
    await writeDurably(join(directory, "agent.json"), JSON.stringify(stored));
    this.#records.set(record.key, stored);
    return stored;
  }

  async putEnvironment(key: string, environment: AgentEnvironment): Promise<void> {
    const directory = agentDirectory(this.#stateDirectory, key);
    await makePrivateDirectory(directory);
    await writeDurably(join(directory, "env.json"), JSON.stringify(environment));
  }

  async environment(key: string): Promise<AgentEnvironment> {
    const file = join(agentDirectory(this.#stateDirectory, key), "env.json");
    const parsed = agentEnvironmentSchema.safeParse(await readJson(file));
    return parsed.success ? parsed.data : { env: {}, secrets: [] };
  }

  /** Forgets the agent and removes its files, but for its workspace when that is to stay. */
  async remove(key: string, options: { readonly keepWorkspace: boolean }): Promise<void> {
    this.#records.delete(key);
    const directory = agentDirectory(this.#stateDirectory, key);
    if (!options.keepWorkspace) return removeAll(directory);
    for (const name of await readdir(directory)) if (name !== "workspace") await removeAll(join(directory, name));
  }
}
