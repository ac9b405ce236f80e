import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { HubError, notFound, type Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type Db, refusesAttach } from "@rootstock/store";
import { z } from "zod";
import { type Credentials, NOBODY, type Principal, provenUntil, standsBy } from "../auth/index.ts";
import { runsNowhere } from "../dispatch/index.ts";
import type { OpenStreams, RateLimits } from "../limits/index.ts";
import { type Met, type Prepared, type Refused, Upgrades } from "../sockets/index.ts";
import {
  type AgentStreams,
  refusalOf,
  type Tending,
  type TerminalRequest,
  terminalSize,
  Viewer,
} from "../streams/index.ts";
import { usersAndAgents } from "./access.ts";
import { isRefusal } from "./refusals.ts";
import { type Asking, json, type Route, route } from "./route.ts";
import { targetOf } from "./targets.ts";

/** An agent's terminal: whether it can be had (spec/08 1.6), and the WebSocket with it (spec/06 1.7), from any replica. */

const PLACES = ["/api/v1/agents", "/api/v1/projects/:projectId/agents"] as const;
const UPGRADE_PATH = /^\/api\/v1\/(?:(?:projects|groves)\/([^/]+)\/)?agents\/([^/]+)\/pty\/?$/;

/** The most of one frame that a client may send. */
const MAX_FRAME_BYTES = 1_048_576;

const ptyQuery = z.object({
  cols: z.coerce.number().optional().catch(undefined),
  rows: z.coerce.number().optional().catch(undefined),
  readonly: z.string().optional(),
});
type PtyQuery = z.output<typeof ptyQuery>;

/** Whoever says anything else of it wants to look only: what they type must not get there for want of a word that we know. */
const NOT_READONLY: readonly string[] = ["false", "0"];

const ATTACH = { action: "attach", on: "agent" } as const;

/** Which terminal a call wants. Throws 403, 404, 422 for an agent that runs nowhere, 503 where terminals cannot be had. */
const requestOf = async (
  db: Db,
  call: Asking,
  query: PtyQuery,
): Promise<{ readonly agentId: Uuid; readonly request: TerminalRequest }> => {
  const { agent, project, runtimeBroker } = await targetOf(db, call);
  if (agent.deleted_at) throw notFound("Agent");
  if (!runtimeBroker) throw runsNowhere(agent);
  const { profile } = agent.applied_config;
  if (await refusesAttach(db, { runtimeBrokerId: runtimeBroker.id, profile }))
    throw new HubError("runtime_attach_unsupported", `runtime broker ${runtimeBroker.name} offers no terminals`, {
      details: { reason: "agent_pty_unavailable" },
    });
  const request: TerminalRequest = {
    streamType: "pty",
    runtimeBrokerId: runtimeBroker.id,
    slug: agent.slug,
    projectId: project.id,
    ...terminalSize(query.cols, query.rows),
    readonly: query.readonly !== undefined && !NOT_READONLY.includes(query.readonly.toLowerCase()),
  };
  return { agentId: agent.id, request };
};

/** What clients ask before they open the WebSocket: the same answers as the upgrade would get. */
export const agentTerminalRoutes = (deps: { readonly db: Db; readonly streams: AgentStreams }): Route[] =>
  PLACES.map((place) =>
    route({
      method: "GET",
      path: `${place}/:agentId/pty`,
      access: usersAndAgents,
      does: ATTACH,
      accessTokens: true,
      query: ptyQuery,
      summary: "Whether a terminal of an agent can be had; upgraded to a WebSocket, the terminal",
      replies: { 200: z.object({ path: z.literal("broker") }) },
      refuses: ["conflict", "no_runtime_broker", "runtime_attach_unsupported", "runtime_broker_unavailable"],
      handler: async (call) => {
        const { runtimeBrokerId } = (await requestOf(deps.db, call, call.query)).request;
        await deps.streams.check(runtimeBrokerId);
        return json(200, { path: "broker" });
      },
    }),
  );

/** Of which agent, and whether what is typed gets there. */
export type OpenedTerminal = Pick<TerminalRequest, "slug" | "projectId" | "readonly"> & { readonly agentId: Uuid };

export interface TerminalUpgradesDeps {
  readonly db: Db;
  readonly streams: AgentStreams;
  readonly tending: Tending;
  readonly authenticate: (credentials: Credentials) => Promise<Principal>;
  readonly toError: (err: unknown) => HubError;
  readonly met: Met;
  readonly limits: Pick<RateLimits, "act">;
  readonly openStreams: Pick<OpenStreams, "hold">;
  /** Records who has a terminal of which agent. */
  readonly opened: (principal: Principal, credentials: Credentials, terminal: OpenedTerminal) => Promise<void>;
  /** Told of who is refused for want of rights, of which agent; nobody waits for that. */
  readonly refused: (...who: [...Parameters<Refused>, params: Readonly<Record<string, string>>]) => void;
  /** False while the replica starts. */
  readonly serving: () => boolean;
  /** Limits of a viewer's session in milliseconds; 0 is none. */
  readonly idleMs: number;
  readonly limitMs: number;
}

/** The WebSockets of viewers. */
export class TerminalUpgrades {
  readonly #base: Base;
  readonly #deps: TerminalUpgradesDeps;
  readonly #upgrades: Upgrades;

  constructor(base: Base, deps: TerminalUpgradesDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#upgrades = new Upgrades({ maxPayload: MAX_FRAME_BYTES, toError: deps.toError });
  }

  handles(url: string | undefined): boolean {
    return UPGRADE_PATH.test(url?.split("?", 1)[0] ?? "");
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#upgrades.take(request, socket, head, (credentials) => this.#prepare(credentials));
  }

  async #prepare(credentials: Credentials): Promise<Prepared> {
    const { db, streams, tending, authenticate, met, serving, idleMs, limitMs } = this.#deps;
    if (!serving() || !tending.open)
      throw new HubError("unavailable", "this replica is not serving; try another", { retryAfter: 1 });
    const query = ptyQuery.parse(Object.fromEntries(new URLSearchParams(credentials.query)));
    const params = paramsOf(credentials.path);
    let known: Principal | undefined;
    const allowed = async () => {
      const principal = await authenticate(credentials);
      if (!known) met(principal, credentials);
      known = principal;
      if (principal.kind === "nobody") throw new HubError("unauthorized", "missing authorization header");
      if (!usersAndAgents.allows(principal))
        throw new HubError("forbidden", `only ${usersAndAgents.name} may open a terminal`);
      return { principal, ...(await requestOf(db, { principal, params, does: ATTACH }, query)) };
    };
    const { principal, agentId, request } = await allowed().catch((err: unknown) => {
      if (isRefusal(err)) this.#deps.refused(known ?? NOBODY, credentials, err, params);
      throw err;
    });
    await this.#deps.limits.act("terminal", principal);
    const release = await this.#deps.openStreams.hold(principal);
    const viewer = new Viewer(this.#base, {
      readonly: request.readonly,
      idleMs,
      limitMs,
      recheck: () => refusalOf(allowed()),
      standsBy: new Set([...standsBy(principal), agentId]),
      until: provenUntil(principal),
      onLeft: () => {
        tending.remove(viewer);
        release();
      },
    });
    const opening = streams.open(request, viewer);
    opening.catch(release);
    const terminal = await opening;
    const end = () => {
      terminal.close("session closed");
      release();
    };
    try {
      await this.#deps.opened(principal, credentials, { ...request, agentId });
    } catch (err) {
      // What cannot be recorded does not happen.
      end();
      throw err;
    }
    return {
      begin: (ws) => {
        viewer.begin(ws, terminal);
        tending.add(viewer);
      },
      abandon: end,
    };
  }
}

const paramsOf = (path: string): Record<string, string> => {
  const [, projectId, agentId] = UPGRADE_PATH.exec(path) ?? [];
  return { ...(projectId && { projectId: decoded(projectId) }), agentId: decoded(agentId ?? "") };
};

const decoded = (segment: string): string => {
  try {
    return decodeURIComponent(segment);
  } catch (err) {
    throw new HubError("invalid_request", "the path is not valid percent-encoding", { cause: err });
  }
};
