import type { Breach } from "../breach.ts";
import type { Move, Round, Transition } from "../history.ts";

/** Invariant 5: every step of a row is one of the legal ones, made by whom the claim or the affinity names. */

const FINAL: readonly string[] = ["delivered", "failed", "done", "expired"];
const UNDER_WAY: readonly string[] = ["delivering", "in_progress"];
const ENDED_BY_ANSWER: readonly string[] = ["delivered", "done"];

const judge = (t: Transition): string | undefined => {
  const writes = (instance: string | null): boolean => instance !== null && t.writers.includes(instance);
  if (FINAL.includes(t.from)) return `left its final state ${t.from} for ${t.to}`;
  if (t.from === "pending" && UNDER_WAY.includes(t.to)) {
    if (t.claimsNow !== t.ownerHub || t.claimSessionNow !== t.ownerSession)
      return "was claimed for a socket that was not the runtime broker's own";
    return writes(t.claimsNow) ? undefined : "was claimed in another replica's name";
  }
  const held = t.claimedBy !== null && t.claimedBy === t.ownerHub && t.claimSession === t.ownerSession;
  if (UNDER_WAY.includes(t.from) && t.to === "pending" && held && !writes(t.claimedBy))
    return "was taken from the replica that held the runtime broker's socket";
  // Of an operation a sweep may find that it is overdue; a message fails by what was answered alone.
  if (t.table === "messages" && t.from === "delivering" && t.to === "failed" && !writes(t.claimedBy))
    return "failed through a replica whose claim it was not";
  if (ENDED_BY_ANSWER.includes(t.to)) {
    if (UNDER_WAY.includes(t.from) && !writes(t.claimedBy))
      return `became ${t.to} through a replica whose claim it was not`;
    if (
      t.from === "pending" &&
      (!writes(t.ownerHub) || t.claimsNow !== t.ownerHub || t.claimSessionNow !== t.ownerSession)
    )
      return `became ${t.to} through a replica that did not hold the runtime broker's socket any more`;
  }
  return undefined;
};

export const checkClaims = ({ rest }: Round): Breach[] =>
  rest.transitions.flatMap((t): Breach[] => {
    const wrong = judge(t);
    return wrong ? [{ rule: "an old connection spoke", what: `${t.subject} (${t.id}) ${wrong}` }] : [];
  });

/**
 * A replica gives up a socket because that has ended. Was it a newer one's name that it took away, that one is named again:
 * its replica finds that it is nobody's. (One that was thought dead has its sockets taken by others.)
 */
export const checkGivenUp = ({ rest }: Round): Breach[] => {
  const givenUp = new Set<string>();
  return rest.moves.flatMap((m: Move): Breach[] => {
    if (m.from !== null && m.to === null && m.fromHub !== null && m.writers.includes(m.fromHub)) givenUp.add(m.from);
    return m.to !== null && givenUp.has(m.to)
      ? [
          {
            rule: "an old connection spoke",
            what: `session ${m.to} of runtime broker ${m.runtimeBroker} was given up by its own replica, and lived`,
          },
        ]
      : [];
  });
};

/** In the end each runtime broker's live socket is the one that the database names. */
export const checkSockets = ({ rest }: Round): Breach[] =>
  rest.sockets.flatMap((s): Breach[] =>
    s.session === s.named
      ? []
      : [
          {
            rule: "an old connection spoke",
            what: `runtime broker ${s.runtimeBroker} lives on session ${s.session || "none"}, the database names ${s.named ?? "none"}`,
          },
        ],
  );
