import { join } from "node:path";
import type { Clock, Service } from "@rootstock/service";
import type { AgentPlace } from "../runtimes/runtime.ts";
import { IdLog } from "./idLog.ts";

const KEPT = { maxIds: 5_000, maxAgeMs: 30 * 24 * 3_600_000, durable: true } as const;

/**
 * The ids of messages that agents have had, so that one that comes again is not typed again.
 *
 * The order: type the message, write its id down durably, answer. A runtime broker that is killed before the id is on disk
 * gets the message again and asks the session, which remembers what was typed into it (the session host, or tmux inside
 * the container) and leaves it out. Only a session that dies in that very moment, with its runtime broker, lets a message
 * come twice: into another session. Writing the id down first would lose the message in the same moment instead.
 */
export class DeliveredMessages implements Service {
  readonly #clock: Clock;
  readonly #logs = new Map<string, IdLog>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    const logs = [...this.#logs.values()];
    this.#logs.clear();
    await Promise.all(logs.map((log) => log.close()));
  }

  has(place: AgentPlace, messageId: string): Promise<boolean> {
    return this.#log(place).has(messageId);
  }

  /** To be called within the agent's turn. */
  add(place: AgentPlace, messageId: string): Promise<void> {
    return this.#log(place).add(messageId);
  }

  /** To be called when the agent's files are removed. */
  async forget(place: AgentPlace): Promise<void> {
    const log = this.#logs.get(place.key);
    this.#logs.delete(place.key);
    await log?.close();
  }

  #log(place: AgentPlace): IdLog {
    const log =
      this.#logs.get(place.key) ?? new IdLog(this.#clock, { file: join(place.directory, "delivered.ids"), ...KEPT });
    this.#logs.set(place.key, log);
    return log;
  }
}
