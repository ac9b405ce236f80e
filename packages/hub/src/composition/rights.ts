import type { Uuid } from "@rootstock/protocol";
import { z } from "zod";
import type { ProjectResource } from "../auth/index.ts";
import type { HubEvent } from "../bus/index.ts";
import type { SseHub } from "../sse/index.ts";
import type { Control } from "./control.ts";
import type { Foundation } from "./foundation.ts";
import type { Streams } from "./streams.ts";

const deciding = z.object({
  visibility: z.enum(["private", "team", "public"]),
  labels: z.record(z.string(), z.string()),
});

/** The project of an event that says who may read it; undefined where it does not say all. */
const projectOf = (id: Uuid, ownerId: Uuid | undefined, data: HubEvent["data"]): ProjectResource | undefined => {
  const found = deciding.safeParse(data);
  return found.success ? { kind: "project", id, ownerId: ownerId ?? null, ...found.data } : undefined;
};

const NOTHING = { wanted: () => false, busy: () => false };

/**
 * Has what lasts looked at when rights change, at whichever replica: what was read of them is forgotten, and streams end
 * whose clients would not be let in any more.
 */
export const followRights = (
  f: Foundation,
  { proofs }: Pick<Control, "proofs">,
  { tending }: Pick<Streams, "tending">,
  sse: SseHub,
): void => {
  const { eventBus, standings, access, accessTokens, maintenance, policyTimes, proxyLogin } = f;
  const recheck = (id?: string): void => {
    tending.recheck(id);
    sse.recheck(id);
  };
  eventBus.subscribe(["user.*.changed"], ({ entityId }) => {
    standings.forget(entityId);
    // Agents act for people, and for none that is suspended.
    access.forgetAll();
    recheck(entityId);
  });
  eventBus.subscribe(["credential.*.ended"], ({ entityId, data }) => {
    if (data.of === "runtime_broker") {
      void proofs.changed(entityId);
      return;
    }
    standings.forgetSignIn(entityId);
    accessTokens.forgetAll();
    recheck(entityId);
  });
  eventBus.subscribe(["access.*.changed"], () => {
    access.forgetAll();
    recheck();
  });
  policyTimes.onTurn(() => {
    sse.sightChanged();
    tending.recheck();
  });
  eventBus.subscribe(["sight.project.changed"], ({ entityId, ownerId, data }) => {
    sse.sightChanged(projectOf(entityId, ownerId, data));
    if (data.added !== true) tending.recheck();
  });
  eventBus.subscribe(["sight.agent.changed"], ({ entityId }) => {
    sse.sightChanged();
    tending.recheck(entityId);
  });
  // Whom a proxy vouches for comes in by each call; who has signed in otherwise stays until that ends.
  eventBus.subscribe(["admin.allowlist.changed"], () => {
    proxyLogin.forgetAll();
    if (proxyLogin.kind) recheck();
  });
  eventBus.subscribe(["admin.maintenance.changed"], () => {
    void maintenance.look().then(() => recheck());
  });
  eventBus.onOutcome((outcome) => {
    if (outcome.kind !== "resync") return;
    // What happened meanwhile is not told any more.
    standings.forgetAll();
    accessTokens.forgetAll();
    access.forgetAll();
    proxyLogin.forgetAll();
    recheck();
  }, NOTHING);
};
