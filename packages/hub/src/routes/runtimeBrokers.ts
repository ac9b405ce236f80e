import { HubError, type Uuid } from "@rootstock/protocol";
import {
  countRuntimeBrokers,
  type Db,
  deleteRuntimeBroker,
  isUniqueViolation,
  listProvidedProjects,
  listRuntimeBrokers,
  projectRow,
  type RuntimeBrokerRow,
  runtimeBrokerPosition,
  updateRuntimeBroker,
} from "@rootstock/store";
import { z } from "zod";
import type { Principal } from "../auth/index.ts";
import { count, id, pageFields, runtimeBrokerJson, runtimeBrokerReply, some } from "../wire/index.ts";
import { authenticated, users } from "./access.ts";
import { NOTHING } from "./does.ts";
import { labels, MAX_NAME, text } from "./fields.ts";
import { optionalUuid } from "./lookup.ts";
import { pageQuery, readPage, totalOf } from "./pages.ts";
import { type Abilities, abilitiesOf, may, projectResource, readScope } from "./rights.ts";
import { empty, json, type Route, route } from "./route.ts";
import { runtimeBrokerOf, runtimeBrokerResource } from "./runtimeBrokerRights.ts";
import { NO_BODY } from "./shapes.ts";

/** The registry of runtime brokers (spec/01 1.6). */

export interface RuntimeBrokerRouteDeps {
  readonly db: Db;
  /** Called after a commit that touched what the change feed shows. */
  readonly changed: () => void;
  /** Closes the socket of a deleted runtime broker, if it is here; other replicas find out with their next poll. */
  readonly forget: (runtimeBrokerId: Uuid) => void;
}

const PLACE = "/api/v1/runtime-brokers";
const ONE = `${PLACE}/:brokerId`;
/** The CLI never follows a cursor. */
const SIZES = { usual: 50, max: 500, first: 1000 };
/** No project has it: what is listed for it are the runtime brokers that provide for all. */
const NO_PROJECT = "00000000-0000-0000-0000-000000000000";

const listQuery = z.object({
  ...pageQuery,
  status: z.string().optional(),
  name: z.string().optional(),
  projectId: z.string().optional(),
  groveId: z.string().optional(),
});

const listReply = z.object({ ...pageFields, brokers: z.array(runtimeBrokerReply) });
const servedReply = z.object({
  projects: z.array(
    z.object({
      projectId: id,
      projectName: z.string(),
      gitRemote: z.string().optional(),
      agentCount: count,
      localPath: z.string().optional(),
    }),
  ),
});

const patchBody = z.object({ name: text(MAX_NAME).transform((name) => name?.trim() || undefined), labels });

export const runtimeBrokerRoutes = (deps: RuntimeBrokerRouteDeps): Route[] => {
  const { db } = deps;
  const view = (can: Abilities, r: RuntimeBrokerRow & { readonly local_path?: string | null }) =>
    runtimeBrokerJson(r, {
      localPath: r.local_path ?? null,
      capabilities: can.of(runtimeBrokerResource(r)),
    });

  return [
    route({
      method: "GET",
      path: PLACE,
      access: authenticated,
      does: { action: "list", on: "runtimeBroker" },
      query: listQuery,
      summary: "Runtime brokers",
      replies: { 200: listReply },
      handler: async (call) => {
        const { status, name } = call.query;
        const asked = optionalUuid("projectId", call.query.projectId || call.query.groveId);
        // Where the project lies on those machines is told to whoever may read it.
        const projectId = asked && ((await mayReadProject(db, call.principal, asked)) ? asked : NO_PROJECT);
        const filter = { ...(status && { status }), ...(name && { name }), ...(projectId && { projectId }) };
        const page = await readPage({
          list: "runtime-brokers",
          filters: { status, name, projectId: asked },
          given: call.query,
          sizes: SIZES,
          rows: (rows) => listRuntimeBrokers(db, filter, rows),
          position: (id) => runtimeBrokerPosition(db, id),
        });
        const can = await abilitiesOf(call.principal);
        return json(200, {
          brokers: page.rows.map((r) => view(can, r)),
          ...some("nextCursor", page.nextCursor),
          totalCount: await totalOf(page, () => countRuntimeBrokers(db, filter)),
        });
      },
    }),
    route({
      method: "GET",
      path: `${PLACE}/connect`,
      access: authenticated,
      does: NOTHING,
      summary: "Where runtime brokers dial in, with a WebSocket",
      replies: {},
      handler: () => {
        throw new HubError("invalid_request", "a WebSocket upgrade is expected here");
      },
    }),
    route({
      method: "GET",
      path: ONE,
      access: authenticated,
      does: { action: "read", on: "runtimeBroker" },
      summary: "One runtime broker",
      replies: { 200: runtimeBrokerReply },
      handler: async (call) => json(200, view(await abilitiesOf(call.principal), await runtimeBrokerOf(db, call))),
    }),
    route({
      method: "PATCH",
      path: ONE,
      access: users,
      does: { action: "update", on: "runtimeBroker" },
      body: patchBody,
      summary: "Changes the name or the labels of a runtime broker",
      replies: { 200: runtimeBrokerReply },
      refuses: ["conflict"],
      handler: async (call) => {
        const { id } = await runtimeBrokerOf(db, call);
        const { name } = call.body;
        await updateRuntimeBroker(db, id, {
          ...(name !== undefined && { name, slug: runtimeBrokerSlug(name) }),
          ...(call.body.labels && { labels: JSON.stringify(call.body.labels) }),
        }).catch((err: unknown) => {
          if (!isUniqueViolation(err)) throw err;
          throw new HubError("conflict", "another runtime broker has this name", { details: { field: "name" } });
        });
        deps.changed();
        return json(200, view(await abilitiesOf(call.principal), await runtimeBrokerOf(db, call)));
      },
    }),
    route({
      method: "DELETE",
      path: ONE,
      access: users,
      does: { action: "delete", on: "runtimeBroker" },
      summary: "Deletes a runtime broker",
      replies: { 204: NO_BODY },
      refuses: ["conflict"],
      handler: async (call) => {
        const { id } = await runtimeBrokerOf(db, call);
        await deleteRuntimeBroker(db, id);
        deps.changed();
        deps.forget(id);
        return empty();
      },
    }),
    route({
      method: "GET",
      path: `${ONE}/projects`,
      access: authenticated,
      does: { action: "read", on: "runtimeBroker" },
      summary: "Projects that a runtime broker serves",
      replies: { 200: servedReply },
      handler: async (call) => {
        const { principal } = call;
        const owner = await runtimeBrokerOf(db, call);
        const all = isSelf(principal, owner.id) || (await may(principal, "update", runtimeBrokerResource(owner)));
        const scope = all ? EVERYTHING : await readScope(principal);
        const projects = await listProvidedProjects(db, owner.id, scope);
        return json(200, {
          projects: projects.map((p) => ({
            projectId: p.id,
            projectName: p.name,
            ...some("gitRemote", p.git_remote),
            agentCount: p.agent_count,
            ...some("localPath", p.local_path),
          })),
        });
      },
    }),
  ];
};

/** What a runtime broker serves is told whole to itself and to whom it belongs. */
const EVERYTHING = { kind: "everything" } as const;

const isSelf = (principal: Principal, id: Uuid): boolean => principal.kind === "runtimeBroker" && principal.id === id;

const mayReadProject = async (db: Db, principal: Principal, projectId: Uuid): Promise<boolean> => {
  const project = await projectRow(db, projectId);
  if (!project) return false;
  return may(principal, "read", projectResource(project, principal.kind === "runtimeBroker" ? [principal.id] : []));
};

/** Lower case, spaces as `-`, nothing but `a-z0-9-` (spec/01 1.2). May be empty. */
export const runtimeBrokerSlug = (name: string): string =>
  name
    .toLowerCase()
    .replaceAll(" ", "-")
    .replace(/[^a-z0-9-]/g, "");
