import { HubError, notFound, parseUuid } from "@rootstock/protocol";
import {
  findRuntimeBroker,
  isForeignKeyViolation,
  listProviders,
  providerOf,
  transaction,
  unlinkProvider,
} from "@rootstock/store";
import { z } from "zod";
import { providerJson, providerReply } from "../wire/index.ts";
import { authenticated } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { text } from "./fields.ts";
import { plainProjectOf } from "./lookup.ts";
import { demandLink, link, mayChooseFolder, unknownRuntimeBroker } from "./providerLinks.ts";
import { demand, may } from "./rights.ts";
import { empty, json, type Route, route } from "./route.ts";
import { runtimeBrokerResource } from "./runtimeBrokerRights.ts";
import { NO_BODY } from "./shapes.ts";

const linkBody = z.object({ brokerId: z.string().min(1).max(64), localPath: text(4096) });

/** The runtime brokers that serve a project (spec/02 3.4). */
export const providerRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId/providers",
    access: authenticated,
    does: { action: "read", on: "project" },
    summary: "The runtime brokers that serve a project",
    replies: { 200: z.object({ providers: z.array(providerReply) }) },
    handler: async (call) => {
      const { id } = await plainProjectOf(deps.db, call);
      const providers = await listProviders(deps.db, id);
      return json(200, { providers: providers.map(providerJson) });
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/projects/:projectId/providers",
    access: authenticated,
    does: { action: "dispatch", on: "runtimeBroker" },
    body: linkBody,
    summary: "Lets a runtime broker serve a project",
    replies: { 201: z.object({ provider: providerReply }) },
    refuses: ["conflict"],
    handler: async (call) => {
      const { id, resource } = await plainProjectOf(deps.db, call);
      const runtimeBrokerId = parseUuid(call.body.brokerId);
      const runtimeBroker = runtimeBrokerId && (await findRuntimeBroker(deps.db, runtimeBrokerId));
      if (!runtimeBroker) throw unknownRuntimeBroker(call.body.brokerId);
      await demandLink(call.principal, runtimeBroker, resource);
      const { localPath } = call.body;
      if (localPath && !(await mayChooseFolder(call.principal, runtimeBroker)))
        throw new HubError("forbidden", "only the runtime broker's owner chooses a folder on it: leave localPath out");
      try {
        return await createOnce(deps, call, async (tx) => {
          await link(tx, call.principal, id, runtimeBroker, { localPath, keepPath: false });
          const provider = await providerOf(tx, id, runtimeBroker.id);
          if (!provider) throw notFound("Provider");
          return { status: 201, body: { provider: providerJson(provider) } };
        });
      } catch (err) {
        if (!isForeignKeyViolation(err)) throw err;
        throw new HubError("conflict", "the project or the runtime broker was deleted meanwhile", { cause: err });
      }
    },
  }),
  route({
    method: "DELETE",
    path: "/api/v1/projects/:projectId/providers/:brokerId",
    access: authenticated,
    does: { action: "update", on: "runtimeBroker" },
    summary: "Sends a runtime broker away from a project",
    replies: { 204: NO_BODY },
    refuses: ["conflict"],
    handler: async (call) => {
      const { id, resource } = await plainProjectOf(deps.db, call);
      const runtimeBrokerId = parseUuid(call.params.brokerId ?? "");
      const runtimeBroker = runtimeBrokerId && (await findRuntimeBroker(deps.db, runtimeBrokerId));
      if (!runtimeBroker) throw notFound("Provider");
      // Who owns the project sends a runtime broker away, whoever owns that; and who owns that takes it away.
      if (!(await may(call.principal, "update", resource)))
        await demand(call.principal, "update", runtimeBrokerResource(runtimeBroker));
      const removed = await transaction(deps.db, (tx) => unlinkProvider(tx, id, runtimeBroker.id));
      if (!removed) throw notFound("Provider");
      deps.changed();
      return empty();
    },
  }),
];
