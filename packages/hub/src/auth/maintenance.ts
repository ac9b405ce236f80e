import { HubError } from "@rootstock/protocol";
import { type Base, Loop, type Service } from "@rootstock/service";
import { type Db, type MaintenanceRow, readMaintenance } from "@rootstock/store";
import type { Principal } from "./principal.ts";

/** What people are told when nobody has said anything else. */
export const USUAL_MESSAGE = "System offline for maintenance";
/** With every change event lost, a change counts after this time, in milliseconds. */
const LOOK_EVERY_MS = 1_000;
const RETRY_AFTER_SECONDS = 30;

/**
 * Maintenance (spec/03 5.10): people other than admins are asked to come back later. Agents and runtime brokers go on,
 * and so does whatever needs no credential: signing in, refreshing, joining, health. The state is the database's; what a
 * replica knows of it is a second old at most, and asking costs a request nothing.
 */
export class MaintenanceMode implements Service {
  readonly #db: Db;
  readonly #base: Base;
  readonly #looking: Loop;
  #state: MaintenanceRow = { enabled: false, message: "" };

  constructor(base: Base, db: Db) {
    this.#base = base;
    this.#db = db;
    this.#looking = new Loop(base.log, "maintenance mode", async (signal) => {
      while (!signal.aborted) {
        await base.clock.sleep(LOOK_EVERY_MS, signal);
        if (!signal.aborted) await this.look();
      }
    });
  }

  /** Reads the state before anybody is served. */
  async start(): Promise<void> {
    await this.look();
    await this.#looking.start();
  }

  stop(): Promise<void> {
    return this.#looking.stop();
  }

  /** Reads the state anew. What was known holds where the database does not answer. */
  async look(): Promise<void> {
    try {
      this.#state = await readMaintenance(this.#db);
    } catch (err) {
      this.#base.log.debug({ err }, "maintenance mode not read");
    }
  }

  /** To be called with what was written just now. */
  know(state: MaintenanceRow): void {
    this.#state = state;
  }

  /** Throws 503 `system_maintenance` for who has to wait. */
  admit(principal: Principal): void {
    if (!this.#state.enabled || principal.kind !== "user" || principal.role === "admin") return;
    throw new HubError("system_maintenance", messageOf(this.#state), { retryAfter: RETRY_AFTER_SECONDS });
  }
}

/** What people are told. */
export const messageOf = ({ message }: MaintenanceRow): string => message || USUAL_MESSAGE;
