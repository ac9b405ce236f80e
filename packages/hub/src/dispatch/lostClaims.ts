import type { Uuid } from "@rootstock/protocol";
import { type Database, type OwnClaim, ownClaims, releaseDispatch, releaseMessages } from "@rootstock/store";

/** What is claimed in this replica's name and is not under way here. */
export const findLostClaims = async (
  database: Database,
  instanceId: Uuid,
  isUnderWay: (claim: OwnClaim) => boolean,
): Promise<OwnClaim[]> => {
  const claims = await database.background(() => ownClaims(database.db, instanceId));
  return claims.filter((claim) => !isUnderWay(claim));
};

/**
 * Gives lost claims back: their connection broke after the claim was committed and before anybody was told. Without this
 * they would be nobody's for as long as socket and replica live, and keep their agents' later work back.
 */
export const giveBackClaims = async (
  database: Database,
  instanceId: Uuid,
  lost: readonly OwnClaim[],
): Promise<void> => {
  const reason = "the answer to its claim was lost";
  const deliveries = lost.filter((c) => c.kind === "message");
  if (deliveries.length > 0)
    await database.background(() => releaseMessages(database.db, { instanceId, deliveries, reason }));
  for (const { id, kind, sessionId } of lost)
    if (kind === "dispatch") {
      const claim = { instanceId, sessionId };
      await database.background(() => releaseDispatch(database.db, { id, claim, sent: false, reason }));
    }
};
