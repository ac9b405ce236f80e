import { HubError, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type Db, ownerOf } from "@rootstock/store";
import type { Registry, StreamHandler } from "../control/index.ts";
import { openHere } from "./localTerminal.ts";
import type { OwnerLink, Terminal, TerminalRequest } from "./terminal.ts";

export interface TerminalsDeps {
  readonly db: Db;
  readonly registry: Registry;
  /** The ways to other replicas, the better one first; the next is tried where one finds nobody. */
  readonly links: readonly OwnerLink[];
}

const MAX_RESOLUTIONS = 5;
const FIRST_WAIT_MS = 50;

/** Opens terminals of runtime brokers wherever they hang (design section 8). */
export class Terminals {
  readonly #base: Base;
  readonly #deps: TerminalsDeps;

  constructor(base: Base, deps: TerminalsDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /** Throws 503 `runtime_broker_unavailable` when nobody holds the runtime broker's socket. */
  async check(runtimeBrokerId: Uuid): Promise<void> {
    if (this.#deps.registry.get(runtimeBrokerId)) return;
    if (!(await ownerOf(this.#deps.db, runtimeBrokerId))) throw notConnected(runtimeBrokerId);
  }

  /** Throws 503 as `check` does, also when the owner cannot be reached; nothing is open then. */
  async open(request: TerminalRequest, handler: StreamHandler): Promise<Terminal> {
    const { runtimeBrokerId } = request;
    for (let attempt = 0; attempt < MAX_RESOLUTIONS; attempt += 1) {
      const terminal = openHere(this.#deps.registry, request, handler) ?? (await this.#openThere(request, handler));
      if (terminal) return terminal;
      // Affinity and sockets move together within milliseconds: a runtime broker whose owner died is back somewhere at once.
      await this.#base.clock.sleep(FIRST_WAIT_MS * 2 ** attempt);
    }
    throw notConnected(runtimeBrokerId);
  }

  async #openThere(request: TerminalRequest, handler: StreamHandler): Promise<Terminal | undefined> {
    const owner = await ownerOf(this.#deps.db, request.runtimeBrokerId);
    if (!owner) throw notConnected(request.runtimeBrokerId);
    for (const link of this.#deps.links) {
      const opened = await link.open(owner, request, handler);
      if (opened === "not_owner") return undefined;
      if (opened !== "unreachable") return opened;
    }
    return undefined;
  }
}

const notConnected = (runtimeBrokerId: Uuid): HubError =>
  new HubError("runtime_broker_unavailable", "the runtime broker is not connected", {
    details: { reason: "broker_not_connected", requestedBrokerId: runtimeBrokerId, availableBrokers: null },
    retryAfter: 5,
  });
