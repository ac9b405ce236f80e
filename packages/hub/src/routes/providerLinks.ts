import { HubError } from "@rootstock/protocol";
import { type Db, defaultRuntimeBrokerIfNone, linkProvider, providerOf, type RuntimeBrokerRow } from "@rootstock/store";
import { type Principal, principalName, type Resource } from "../auth/index.ts";
import { may } from "./rights.ts";
import { runtimeBrokerResource } from "./runtimeBrokerRights.ts";

/** Which runtime brokers serve a project, and who decides that. */

/**
 * Whether the principal may let the runtime broker serve the project. Its own machine: for every project in which it may
 * create agents. Another one: if it may run agents there and change the project. Reading a project is not enough: agents
 * of others, with all that they are given, would come to the machine of whoever offers one.
 */
export const mayLink = async (
  principal: Principal,
  runtimeBroker: RuntimeBrokerRow,
  project: Resource,
): Promise<boolean> => {
  const resource = runtimeBrokerResource(runtimeBroker);
  if (await may(principal, "update", resource)) return may(principal, "create", project);
  return (await may(principal, "dispatch", resource)) && may(principal, "update", project);
};

/** Throws 403 when the principal may not link or unlink. */
export const demandLink = async (
  principal: Principal,
  runtimeBroker: RuntimeBrokerRow,
  project: Resource,
): Promise<void> => {
  if (await mayLink(principal, runtimeBroker, project)) return;
  throw new HubError(
    "forbidden",
    "only the runtime broker's owner, as a member of the project, or an owner of the project may do this",
  );
};

/**
 * Whether the principal may say which folder of the machine a project's agents work in: only whoever owns the machine.
 * Who may merely run agents there would have any folder of it, other projects' included, given to theirs.
 */
export const mayChooseFolder = (principal: Principal, runtimeBroker: RuntimeBrokerRow): Promise<boolean> =>
  may(principal, "update", runtimeBrokerResource(runtimeBroker));

/** The refusal of a `brokerId` that names nothing. */
export const unknownRuntimeBroker = (brokerId: string): HubError =>
  new HubError("validation_error", "brokerId names no runtime broker: register it first", {
    details: { field: "brokerId", brokerId },
  });

/**
 * Links the runtime broker in the caller's transaction and makes it the project's default when there is none.
 * `keepPath`: a link that exists stays untouched, so that a project with its folder on the hub does not become one of
 * a person's machine (spec/01 1.7).
 */
export const link = async (
  tx: Db,
  principal: Principal,
  projectId: string,
  runtimeBroker: RuntimeBrokerRow,
  options: { readonly localPath: string | undefined; readonly keepPath: boolean },
): Promise<void> => {
  const kept = options.keepPath && (await providerOf(tx, projectId, runtimeBroker.id)) !== undefined;
  if (!kept)
    await linkProvider(tx, {
      projectId,
      runtimeBrokerId: runtimeBroker.id,
      localPath: options.localPath ?? null,
      linkedBy: principal.kind === "user" ? principal.id : principalName(principal),
    });
  await defaultRuntimeBrokerIfNone(tx, projectId, runtimeBroker.id);
};
