import type { SseHub } from "../sse/index.ts";
import type { Control } from "./control.ts";
import type { Foundation } from "./foundation.ts";
import type { Streams } from "./streams.ts";

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
  const { eventBus, standings, access, accessTokens, maintenance } = f;
  const recheck = (id?: string): void => {
    tending.recheck(id);
    sse.recheck(id);
  };
  eventBus.subscribe(["user.*.changed"], ({ entityId }) => {
    standings.forget(entityId);
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
  eventBus.subscribe(["admin.maintenance.changed"], () => {
    void maintenance.look().then(() => recheck());
  });
  eventBus.onOutcome((outcome) => {
    if (outcome.kind !== "resync") return;
    // What happened meanwhile is not told any more.
    standings.forgetAll();
    accessTokens.forgetAll();
    access.forgetAll();
    recheck();
  }, NOTHING);
};
