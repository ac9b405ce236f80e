import { invalidField, parseUuid, type Uuid } from "@rootstock/protocol";
import {
  type AgentFilter,
  type AgentView,
  agentPosition,
  countAgents,
  countAllAgents,
  listAgents,
} from "@rootstock/store";
import { z } from "zod";
import type { Principal, ProjectResource } from "../auth/index.ts";
import {
  agentJson,
  agentReply,
  type Capabilities,
  capabilitiesJson,
  pageFields,
  some,
  time,
  timestamp,
} from "../wire/index.ts";
import { authenticated } from "./access.ts";
import type { ResourceDeps } from "./deps.ts";
import { type LongList, readLongList, totalFields, totalJson, totalQuery } from "./longLists.ts";
import { agentOf, optionalUuid, plainProjectOf } from "./lookup.ts";
import { pageLimit, pageQuery } from "./pages.ts";
import { type Abilities, abilitiesOf, agentResource, may, readScope } from "./rights.ts";
import { type Call, json, type Reply, type Route, route } from "./route.ts";

/**
 * The first page is large: the CLI never follows a cursor, and its sync takes an agent that is not on the page for
 * deleted and removes it on the person's machine.
 */
const SIZES = { usual: 50, max: 500, first: 1000 };

const REPEATED = ["label", "id"];

const listQuery = z.object({
  ...pageQuery,
  ...totalQuery,
  projectId: z.string().optional(),
  groveId: z.string().optional(),
  runtimeBrokerId: z.string().optional(),
  phase: z.string().optional(),
  harnessConfig: z.string().optional(),
  ownerId: z.string().optional(),
  ancestorId: z.string().optional(),
  includeDeleted: z.string().optional(),
  scope: z.string().optional(),
  mine: z.string().optional(),
  label: z.array(z.string()),
  id: z.array(z.string()),
});
type ListQuery = z.output<typeof listQuery>;

const listReply = z.object({
  ...pageFields,
  agents: z.array(agentReply),
  ...totalFields,
  serverTime: timestamp,
  feedCursor: z.string(),
  _capabilities: capabilitiesJson,
});

type ReadDeps = Pick<ResourceDeps, "db" | "feedCursor" | "agentConfigs" | "exactCounts">;

/** Reading agents (spec/02 2.6, spec/08 1.3). */
export const agentReadRoutes = (deps: ReadDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/agents",
    access: authenticated,
    does: { action: "list", on: "agent" },
    accessTokens: true,
    query: listQuery,
    repeated: REPEATED,
    summary: "Agents that the caller may read",
    replies: { 200: listReply },
    refuses: ["unprocessable"],
    handler: (call) => {
      const id = optionalUuid("projectId", call.query.projectId || call.query.groveId);
      return list(deps, call, async () => ({ id }));
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId/agents",
    access: authenticated,
    does: { action: "list", on: "agent" },
    accessTokens: true,
    query: listQuery,
    repeated: REPEATED,
    summary: "Agents of a project",
    replies: { 200: listReply },
    refuses: ["unprocessable"],
    handler: (call) => {
      const { params, does } = call;
      return list(deps, call, (principal) => plainProjectOf(deps.db, { principal, params, does }));
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/agents/:agentId",
    access: authenticated,
    does: { action: "read", on: "agent" },
    accessTokens: true,
    summary: "One agent",
    replies: { 200: agentReply },
    handler: async (call) => {
      const agent = await agentOf(deps.db, call);
      const can = await abilitiesOf(call.principal);
      const capabilities = can.of(agentResource(agent));
      const shown = await deps.agentConfigs.shown(mayChange(capabilities) ? [agent] : []);
      return json(200, agentJson(agent, { capabilities, values: shown.get(agent.id) }));
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId/agents/:agentId",
    access: authenticated,
    does: { action: "read", on: "agent" },
    accessTokens: true,
    summary: "One agent of a project, by id or slug",
    replies: { 200: agentReply },
    handler: async (call) => {
      const agent = await agentOf(deps.db, call);
      const changes = await may(call.principal, "update", agentResource(agent));
      const shown = await deps.agentConfigs.shown(changes ? [agent] : []);
      return json(200, agentJson(agent, { values: shown.get(agent.id) }));
    },
  }),
];

/** The agents that a principal finds, and what their answer tells besides. */
interface AgentList extends LongList<AgentView> {
  readonly can: Abilities;
  readonly feedCursor: string;
  readonly counted: Awaited<ReturnType<typeof countAgents>>;
  readonly project: ProjectResource | undefined;
}

/** The project that a list is narrowed to. */
type ProjectFor = (
  principal: Principal,
) => Promise<{ readonly id: Uuid | undefined; readonly resource?: ProjectResource }>;

const agentsFor = async (
  { db, feedCursor }: ReadDeps,
  principal: Principal,
  query: ListQuery,
  projectFor: ProjectFor,
): Promise<AgentList> => {
  const project = await projectFor(principal);
  const filters = {
    projectId: project.id,
    runtimeBrokerId: optionalUuid("runtimeBrokerId", query.runtimeBrokerId),
    phase: query.phase || undefined,
    harnessConfig: query.harnessConfig || undefined,
    ownerId: optionalUuid("ownerId", query.ownerId),
    ancestorId: optionalUuid("ancestorId", query.ancestorId),
    ids: idsOf(query.id),
    labels: labelsOf(query.label),
    share: shareOf(principal, query),
    includeDeleted: query.includeDeleted === "true",
  };
  const filter: AgentFilter = { ...filters, scope: await readScope(principal, "agents") };
  const can = await abilitiesOf(principal);
  const cursor = feedCursor();
  const counted = await countAgents(db, filter, pageLimit(query, SIZES));
  return {
    list: "agents",
    filters,
    given: query,
    sizes: SIZES,
    rows: (p) => listAgents(db, filter, p),
    position: (id) => agentPosition(db, filter.scope, id),
    usual: async () => counted,
    all: (tx) => countAllAgents(tx, filter),
    can,
    feedCursor: cursor,
    counted,
    project: project.resource,
  };
};

const list = async (deps: ReadDeps, call: Call<ListQuery>, projectFor: ProjectFor): Promise<Reply> => {
  const { list, page, total } = await readLongList<AgentView, AgentList>(deps.exactCounts, call, (principal) =>
    agentsFor(deps, principal, call.query, projectFor),
  );
  const rows = page.rows.map((agent) => ({ agent, capabilities: list.can.of(agentResource(agent)) }));
  const shown = await deps.agentConfigs.shown(
    rows.flatMap(({ agent, capabilities }) => (mayChange(capabilities) ? agent : [])),
  );
  return json(200, {
    agents: rows.map(({ agent, capabilities }) => agentJson(agent, { capabilities, values: shown.get(agent.id) })),
    ...some("nextCursor", page.nextCursor),
    ...totalJson(total),
    serverTime: time(list.counted.now),
    feedCursor: list.feedCursor,
    _capabilities: list.can.ofList("agent", list.project),
  });
};

const mayChange = ({ actions }: Capabilities): boolean => actions.includes("update");

/** Ids that are none are skipped, as the original does; a list of nothing else matches nothing. */
const idsOf = (texts: readonly string[]): readonly Uuid[] | undefined => {
  if (texts.length === 0) return undefined;
  return texts.map(parseUuid).filter((id) => id !== undefined);
};

const labelsOf = (texts: readonly string[]): Readonly<Record<string, string>> | undefined => {
  if (texts.length === 0) return undefined;
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw invalidField("label", "a label filter is key=value");
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
};

const shareOf = (principal: Principal, query: ListQuery): AgentFilter["share"] => {
  if (principal.kind !== "user" && principal.kind !== "agent") return undefined;
  if (query.scope === "mine" || query.scope === "shared") return { by: principal.id, which: query.scope };
  return query.mine === "true" ? { by: principal.id, which: "any" } : undefined;
};
