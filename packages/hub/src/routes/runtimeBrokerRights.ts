import { HubError, notFound, parseUuid } from "@rootstock/protocol";
import { type Db, findRuntimeBroker, type RuntimeBrokerRow } from "@rootstock/store";
import type { RuntimeBrokerResource } from "../auth/index.ts";
import { demandedOf } from "./does.ts";
import { demand } from "./rights.ts";
import type { Asking } from "./route.ts";

/** A runtime broker as the access decision knows it. */
export const runtimeBrokerResource = (r: RuntimeBrokerRow): RuntimeBrokerResource => ({
  kind: "runtimeBroker",
  id: r.id,
  createdBy: r.created_by,
  autoProvide: r.auto_provide,
});

/** The runtime broker of `:brokerId`. Throws 404, or 403 when what the route declares may not be done. */
export const runtimeBrokerOf = async (db: Db, call: Asking): Promise<RuntimeBrokerRow> => {
  const id = parseUuid(call.params.brokerId ?? "");
  const found = id === undefined ? undefined : await findRuntimeBroker(db, id);
  if (!found) throw notFound("Runtime broker");
  await demand(call.principal, demandedOf(call.does, "runtimeBroker"), runtimeBrokerResource(found));
  return found;
};

/** The caller, which must be the runtime broker of `:brokerId` itself. Throws 400 for no UUID, 403 for another's. */
export const demandSelf = (call: Asking): string => {
  const id = parseUuid(call.params.brokerId ?? "");
  if (id === undefined) throw new HubError("invalid_request", "the runtime broker's id must be a UUID");
  if (call.principal.kind !== "runtimeBroker" || call.principal.id !== id)
    throw new HubError("forbidden", "a runtime broker speaks for itself only");
  return id;
};
