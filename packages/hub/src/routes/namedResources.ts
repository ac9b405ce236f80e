import { notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import { agentById, type Db, findRuntimeBroker, groupById, policyById, projectRow, userById } from "@rootstock/store";
import { RESOURCE_KINDS, type Resource, type ResourceKind } from "../auth/index.ts";
import { agentResource, groupResource, policyResource, projectResource, userResource } from "./rights.ts";
import { runtimeBrokerResource } from "./runtimeBrokerRights.ts";

/** The kind that policies call `type`; undefined for no kind. */
export const kindNamed = (type: string): ResourceKind | undefined => {
  const kind = type === "broker" ? "runtimeBroker" : type;
  return RESOURCE_KINDS.find((k) => k === kind);
};

/**
 * What a question about access is about: one thing, or without an id all things of the kind that belong to no project.
 * Throws 404 when there is no such thing.
 */
export const namedResource = async (db: Db, kind: ResourceKind, name: string | undefined): Promise<Resource> => {
  if (kind === "hub") return { kind };
  if (!name) return { kind: "hub", of: kind };
  const id = parseUuid(name);
  const resource = id && (await stored(db, kind, id));
  if (!resource) throw notFound("Resource");
  return resource;
};

const stored = async (db: Db, kind: Exclude<ResourceKind, "hub">, id: Uuid): Promise<Resource | undefined> => {
  switch (kind) {
    case "project": {
      const project = await projectRow(db, id);
      return project && projectResource(project);
    }
    case "agent": {
      const agent = await agentById(db, id);
      return agent && agentResource(agent);
    }
    case "group": {
      const group = await groupById(db, id);
      return group && groupResource(group);
    }
    case "policy": {
      const policy = await policyById(db, id);
      return policy && policyResource(policy);
    }
    case "user": {
      const user = await userById(db, id);
      return user && userResource(user);
    }
    case "runtimeBroker": {
      const broker = await findRuntimeBroker(db, id);
      return broker && runtimeBrokerResource(broker);
    }
    default:
      return { kind, id };
  }
};
