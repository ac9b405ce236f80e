import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HubError, parseUuid, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { WebSocket } from "ws";
import { type AgentPrincipal, type Credentials, type Principal, provenUntil } from "../auth/index.ts";
import { type Hold, Keepalive, type Met, type Prepared, type Refused, refusing, Upgrades } from "../sockets/index.ts";
import type { Tended } from "./agentStream.ts";
import { EXPIRED, refusalOf, type ViewerClose } from "./closeCodes.ts";
import type { Tending } from "./tending.ts";

export interface PortTunnelsDeps {
  readonly tending: Tending;
  readonly authenticate: (credentials: Credentials) => Promise<Principal>;
  readonly toError: (err: unknown) => HubError;
  readonly met: Met;
  readonly hold: Hold;
  /** Told of who is refused for want of rights; nobody waits for that. */
  readonly refused: Refused;
}

const PATH = /^\/api\/v1\/agents\/([^/?]+)\/ports\/tunnel$/;
/** Nothing is asked through it, so nothing of any size has to come back. */
const MAX_PAYLOAD_BYTES = 65_536;
const KEEPALIVE = { pingMs: 30_000, silenceMs: 90_000 };

/**
 * The sockets over which newer agents offer their ports (spec/08 section 3). Ports are not published by this hub; but an
 * agent that is refused dials again every five seconds for as long as it lives, so that its socket is taken and left idle.
 */
export class PortTunnels {
  readonly #base: Base;
  readonly #deps: PortTunnelsDeps;
  readonly #upgrades: Upgrades;

  constructor(base: Base, deps: PortTunnelsDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#upgrades = new Upgrades({ maxPayload: MAX_PAYLOAD_BYTES, toError: deps.toError });
  }

  handles(url: string | undefined): boolean {
    return agentOf(url) !== undefined;
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#upgrades.take(request, socket, head, (credentials) => this.#prepare(credentials, agentOf(request.url)));
  }

  async #prepare(credentials: Credentials, agentId: Uuid | undefined): Promise<Prepared> {
    const principal = await this.#deps.authenticate(credentials);
    this.#deps.met(principal, credentials);
    if (principal.kind === "nobody") throw new HubError("unauthorized", "missing agent token");
    if (principal.kind !== "agent" || principal.id !== agentId)
      throw refusing(this.#deps.refused, principal, credentials, "an agent offers its own ports only");
    const { tending } = this.#deps;
    if (!tending.open) throw new HubError("unavailable", "this replica is shutting down", { retryAfter: 1 });
    const release = await this.#deps.hold(principal);
    return {
      begin: (ws) => {
        const ask = () => refusalOf(this.#deps.authenticate(credentials));
        const tunnel = new PortTunnel(this.#base, ws, principal, ask);
        ws.once("close", () => {
          tending.remove(tunnel);
          release();
        });
        tending.add(tunnel);
        tunnel.recheck(principal.id);
      },
      abandon: release,
    };
  }
}

const agentOf = (url: string | undefined): Uuid | undefined => {
  const [, id = ""] = PATH.exec(url?.split("?", 1)[0] ?? "") ?? [];
  return parseUuid(id);
};

class PortTunnel implements Tended {
  readonly #ws: WebSocket;
  readonly standsBy: ReadonlySet<Uuid>;
  readonly #base: Base;
  readonly #until: number | undefined;
  readonly #ask: () => Promise<ViewerClose | undefined>;
  readonly #keepalive: Keepalive;

  constructor(base: Base, ws: WebSocket, agent: AgentPrincipal, ask: () => Promise<ViewerClose | undefined>) {
    this.#base = base;
    this.#ws = ws;
    this.standsBy = new Set([agent.id]);
    this.#until = provenUntil(agent);
    this.#ask = ask;
    this.#keepalive = new Keepalive(ws, base.clock, KEEPALIVE);
    ws.on("error", (err) => base.log.debug({ err }, "socket of an agent's ports failed"));
  }

  tick(now: number): void {
    this.#keepalive.tick(now);
    if (this.#until !== undefined && this.#base.clock.now() >= this.#until) this.#close(EXPIRED);
  }

  /** Thousands of agents hold one, and no group or policy gives it. */
  recheck(id?: Uuid): void {
    if (id === undefined) return;
    this.#ask().then(
      (close) => close && this.#close(close),
      (err: unknown) => this.#base.log.warn({ err }, "access to a stream not looked at again"),
    );
  }

  #close({ code, reason }: ViewerClose): void {
    this.#ws.close(code, reason);
  }

  shutDown(): void {
    this.#ws.close(1012, "this replica is shutting down");
  }
}
