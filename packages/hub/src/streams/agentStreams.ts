import { HubError, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type Db, isBetweenSockets, type Owner, ownerOf } from "@rootstock/store";
import type { Registry, StreamHandler } from "../control/index.ts";
import type { AgentStream, AgentStreamRequest, OwnerLink } from "./agentStream.ts";
import type { Detours } from "./detours.ts";
import { openHere } from "./openHere.ts";

export interface AgentStreamsDeps {
  readonly db: Db;
  readonly registry: Registry;
  /** The usual way to other replicas; undefined: there is none. */
  readonly direct: OwnerLink | undefined;
  /** The way to replicas that the direct one does not reach; undefined: there is none. */
  readonly detour: OwnerLink | undefined;
  readonly detours: Detours;
}

const MAX_RESOLUTIONS = 5;
const FIRST_WAIT_MS = 50;
/** A runtime broker whose socket ended no longer ago is on its way to another replica: it dials within milliseconds. */
const MOVING_SECONDS = 5;
/** The owner that cannot be reached is asked by the detour from this attempt on: it may have died just now. */
const DETOUR_FROM = 3;

/** Opens terminals and logs of agents wherever their runtime brokers hang (design section 8). */
export class AgentStreams {
  readonly #base: Base;
  readonly #deps: AgentStreamsDeps;

  constructor(base: Base, deps: AgentStreamsDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /** Throws 503 `runtime_broker_unavailable` when nobody holds the runtime broker's socket, or no way leads there. */
  async check(runtimeBrokerId: Uuid): Promise<void> {
    for (let attempt = 0; attempt < MAX_RESOLUTIONS; attempt += 1) {
      if (this.#deps.registry.get(runtimeBrokerId)) return;
      const owner = await this.#ownerOf(runtimeBrokerId);
      if (owner && (this.#deps.detour ?? this.#deps.direct)?.reaches(owner)) return;
      await this.#base.clock.sleep(FIRST_WAIT_MS * 2 ** attempt);
    }
    throw notConnected(runtimeBrokerId);
  }

  /** Throws 503 as `check` does, also when the owner cannot be reached; nothing is open then. */
  async open(request: AgentStreamRequest, handler: StreamHandler): Promise<AgentStream> {
    const { runtimeBrokerId } = request;
    const unreached = new Set<Uuid>();
    for (let attempt = 0; attempt < MAX_RESOLUTIONS; attempt += 1) {
      const terminal =
        openHere(this.#base, this.#deps.registry, request, handler) ??
        (await this.#openThere(request, handler, unreached, attempt));
      if (terminal) return terminal;
      // Affinity and sockets move together within milliseconds: a runtime broker whose owner died is back somewhere at once.
      await this.#base.clock.sleep(FIRST_WAIT_MS * 2 ** attempt);
    }
    throw notConnected(runtimeBrokerId);
  }

  /** Undefined while it moves. Throws 503 when nobody is expected. */
  async #ownerOf(runtimeBrokerId: Uuid): Promise<Owner | undefined> {
    const owner = await ownerOf(this.#deps.db, runtimeBrokerId);
    if (!owner && !(await isBetweenSockets(this.#deps.db, runtimeBrokerId, MOVING_SECONDS)))
      throw notConnected(runtimeBrokerId);
    return owner;
  }

  async #openThere(
    request: AgentStreamRequest,
    handler: StreamHandler,
    unreached: Set<Uuid>,
    attempt: number,
  ): Promise<AgentStream | undefined> {
    const owner = await this.#ownerOf(request.runtimeBrokerId);
    if (!owner) return undefined;
    const { direct, detour, detours } = this.#deps;
    const { instanceId } = owner;
    const goesDirectly = direct?.reaches(owner) ?? false;
    if (direct && goesDirectly && !unreached.has(instanceId) && !(detour && detours.has(instanceId))) {
      const opened = await direct.open(owner, request, handler);
      if (opened === "unreachable") unreached.add(instanceId);
      return typeof opened === "string" ? undefined : opened;
    }
    if (!detour || (goesDirectly && !detours.has(instanceId) && attempt < DETOUR_FROM)) return undefined;
    const opened = await detour.open(owner, request, handler);
    if (opened === "unreachable") throw notConnected(request.runtimeBrokerId);
    if (opened === "not_owner") return undefined;
    if (goesDirectly) detours.mark(instanceId);
    return opened;
  }
}

const notConnected = (runtimeBrokerId: Uuid): HubError =>
  new HubError("runtime_broker_unavailable", "the runtime broker is not connected", {
    details: { reason: "broker_not_connected", requestedBrokerId: runtimeBrokerId, availableBrokers: null },
    retryAfter: 5,
  });
