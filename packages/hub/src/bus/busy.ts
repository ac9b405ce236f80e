/**
 * What changes all the time: agents report, and messages come by the thousand. All else changes now and then, and parts of
 * every replica want to hear of some of it; for them alone, the many need not be read.
 */
export const BUSY_ENTITIES = ["agent", "message"] as const;

/** How the subjects of their events end (see `Projection`). */
export const BUSY_KINDS = ["created", "status", "deleted", "message", "failed"] as const;

const ENDS: ReadonlySet<string> = new Set([...BUSY_KINDS, "*", ">"]);

/** Whether the pattern may stand for a subject of theirs. */
export const mayBeBusy = (pattern: string): boolean => ENDS.has(pattern.slice(pattern.lastIndexOf(".") + 1));
