import type { Breach } from "./breach.ts";
import { checkClaims, checkGivenUp, checkSockets } from "./checks/claims.ts";
import { checkEvents } from "./checks/events.ts";
import { checkKeys } from "./checks/keys.ts";
import { checkLate } from "./checks/late.ts";
import { checkDuplicated, checkLost, checkOrder } from "./checks/messages.ts";
import { checkAnswered, checkAttempts, checkCarriedOut, checkHeld, checkOverlap } from "./checks/operations.ts";
import type { Round } from "./history.ts";

/** How long what nothing stands in the way of may take, in milliseconds: polls on a machine that has much to do. */
const LATE_MS = 15_000;

/**
 * Decides from a history alone which promises were not kept. `remembers`: whether a runtime broker drops ids that it has
 * seen (the unmodified one does not).
 */
export const check = (
  round: Round,
  remembers: (runtimeBroker: string) => boolean,
  lateMs: number = LATE_MS,
): readonly Breach[] => [
  ...checkLost(round),
  ...checkDuplicated(round, remembers),
  ...checkOrder(round),
  ...checkOverlap(round),
  ...checkAnswered(round),
  ...checkCarriedOut(round),
  ...checkAttempts(round),
  ...checkHeld(round),
  ...checkClaims(round),
  ...checkGivenUp(round),
  ...checkSockets(round),
  ...checkEvents(round),
  ...checkKeys(round),
  ...checkLate(round, lateMs),
];
