import { HubError, invalidField, notFound, parseUuid } from "@rootstock/protocol";
import {
  bindPolicy,
  changePolicy,
  countPolicies,
  type Db,
  deletePolicy,
  insertPolicy,
  isForeignKeyViolation,
  isUniqueViolation,
  listPolicies,
  type PolicyBinding,
  type PolicyFilter,
  type PolicyRow,
  policyBindings,
  policyById,
  unbindPolicy,
} from "@rootstock/store";
import { z } from "zod";
import { capabilitiesJson, id, pageFields, policyJson, policyReply } from "../wire/index.ts";
import { admins } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { demandedOf } from "./does.ts";
import { text } from "./fields.ts";
import { userOf } from "./groupLookup.ts";
import { optionalUuid } from "./lookup.ts";
import { listJson, pageQuery } from "./pages.ts";
import { policyBody, policyPatch } from "./policyBody.ts";
import { abilitiesOf, demandOf, policyResource } from "./rights.ts";
import { type Asking, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/**
 * Policies and whom they are bound to (spec/03 6.3). For admins alone: what a policy gives must not be given by whom it
 * is about (weak point 12).
 */

const PATH = "/api/v1/policies";
const SIZES = { usual: 50, max: 500, first: 50 };

const listQuery = z.object({
  ...pageQuery,
  scopeType: text(16),
  scopeId: z.string().optional(),
  resourceType: text(64),
  effect: text(16),
});

const bindingBody = z.object({
  principalType: z.enum(["user", "group", "agent"]),
  principalId: z.string().refine((s) => parseUuid(s) !== undefined, "must be a UUID"),
});

const bindingReply = z.object({ policyId: id, principalType: z.enum(["user", "group", "agent"]), principalId: id });

export const policyRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: admins,
    does: { action: "list", on: "policy" },
    query: listQuery,
    summary: "Policies",
    replies: { 200: z.object({ ...pageFields, policies: z.array(policyReply), _capabilities: capabilitiesJson }) },
    handler: async ({ principal, query }) => {
      const { limit, cursor, scopeId, ...named } = query;
      const filter: PolicyFilter = { ...named, scopeId: optionalUuid("scopeId", scopeId) };
      const abilities = await abilitiesOf(principal);
      const page = await listJson({
        list: "policies",
        filters: { ...filter },
        given: { limit, cursor },
        sizes: SIZES,
        rows: (wanted) => listPolicies(deps.db, filter, wanted),
        position: (id) => policyById(deps.db, id),
        count: () => countPolicies(deps.db, filter),
        as: "policies",
        toJson: (policy) => policyJson(policy, abilities.of(policyResource(policy))),
      });
      return json(200, { ...page, _capabilities: abilities.ofList("policy") });
    },
  }),
  route({
    method: "POST",
    path: PATH,
    access: admins,
    does: { action: "create", on: "policy" },
    body: policyBody,
    summary: "Makes a policy",
    replies: { 201: policyReply },
    refuses: ["conflict"],
    handler: (call) => {
      const { body } = call;
      return createOnce(deps, call, (tx) =>
        checked(async () => {
          const policy = await insertPolicy(tx, {
            id: deps.random.uuid(),
            ...columns(body),
            name: body.name,
            scope_type: body.scopeType,
            scope_id: body.scopeType === "hub" ? null : (body.scopeId ?? null),
            actions: body.actions,
            effect: body.effect,
            created_by: userOf(call.principal).id,
          });
          return { status: 201, body: policyJson(policy) };
        }),
      );
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/:policyId`,
    access: admins,
    does: { action: "read", on: "policy" },
    summary: "One policy",
    replies: { 200: policyReply },
    handler: async (call) => {
      const policy = await policyOf(deps.db, call);
      const abilities = await abilitiesOf(call.principal);
      return json(200, policyJson(policy, abilities.of(policyResource(policy))));
    },
  }),
  route({
    method: "PATCH",
    path: `${PATH}/:policyId`,
    access: admins,
    does: { action: "update", on: "policy" },
    body: policyPatch,
    summary: "Changes a policy",
    replies: { 200: policyReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const { id } = await policyOf(deps.db, call);
      const { name, effect, actions, ...rest } = call.body;
      const change = {
        ...columns(rest),
        ...(name && { name }),
        ...(effect && { effect }),
        ...(actions && actions.length > 0 && { actions }),
      };
      const changed = await checked(() => changePolicy(deps.db, id, change));
      if (!changed) throw notFound("Policy");
      deps.changed();
      return json(200, policyJson(changed));
    },
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:policyId`,
    access: admins,
    does: { action: "delete", on: "policy" },
    summary: "Deletes a policy",
    replies: { 204: NO_BODY },
    handler: async (call) => {
      const { id } = await policyOf(deps.db, call);
      if (!(await deletePolicy(deps.db, id))) throw notFound("Policy");
      deps.changed();
      return empty();
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/:policyId/bindings`,
    access: admins,
    does: { action: "read", on: "policy" },
    summary: "For whom a policy is",
    replies: { 200: z.object({ bindings: z.array(bindingReply) }) },
    handler: async (call) => json(200, { bindings: await policyBindings(deps.db, (await policyOf(deps.db, call)).id) }),
  }),
  route({
    method: "POST",
    path: `${PATH}/:policyId/bindings`,
    access: admins,
    does: { action: "update", on: "policy" },
    body: bindingBody,
    summary: "Binds a policy to somebody",
    replies: { 201: bindingReply },
    handler: async (call) => {
      const { id: policyId } = await policyOf(deps.db, call);
      const binding: PolicyBinding = { policyId, ...call.body };
      try {
        await bindPolicy(deps.db, { ...binding, createdBy: userOf(call.principal).id });
      } catch (err) {
        if (!isForeignKeyViolation(err)) throw err;
        throw invalidField("principalId", `principalId: unknown ${binding.principalType}`);
      }
      deps.changed();
      return json(201, binding);
    },
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:policyId/bindings/:boundType/:boundId`,
    access: admins,
    does: { action: "update", on: "policy" },
    summary: "Takes a policy from somebody",
    replies: { 204: NO_BODY },
    handler: async (call) => {
      const { id: policyId } = await policyOf(deps.db, call);
      const { boundType: principalType, boundId: principalId } = call.params;
      const named = bindingBody.safeParse({ principalType, principalId });
      if (!named.success || !(await unbindPolicy(deps.db, { policyId, ...named.data }))) throw notFound("Binding");
      deps.changed();
      return empty();
    },
  }),
];

type Written = Pick<
  z.output<typeof policyBody>,
  "description" | "resourceType" | "resourceId" | "conditions" | "priority" | "labels" | "annotations"
>;

/** The columns of what was given. */
const columns = (p: Written) => ({
  ...(p.description && { description: p.description }),
  ...(p.resourceType && { resource_type: p.resourceType }),
  ...(p.resourceId && { resource_id: p.resourceId }),
  ...(p.conditions && { conditions: JSON.stringify(p.conditions) }),
  ...(p.priority !== undefined && p.priority !== null && { priority: p.priority }),
  ...(p.labels && { labels: JSON.stringify(p.labels) }),
  ...(p.annotations && { annotations: JSON.stringify(p.annotations) }),
});

const checked = async <T>(write: () => Promise<T>): Promise<T> => {
  try {
    return await write();
  } catch (err) {
    if (isForeignKeyViolation(err)) throw invalidField("scopeId", "scopeId: unknown project");
    if (isUniqueViolation(err)) throw new HubError("conflict", "the hub has a policy of its own with this name");
    throw err;
  }
};

const policyOf = async (db: Db, call: Asking): Promise<PolicyRow> => {
  const id = parseUuid(call.params.policyId ?? "");
  const policy = id && (await policyById(db, id));
  if (!policy) throw notFound("Policy");
  await demandOf(call.principal, demandedOf(call.does, "policy"), policyResource(policy), "Policy");
  return policy;
};
