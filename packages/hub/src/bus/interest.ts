/** Whether anybody is to be told of an event that goes by one of these subjects. */
export type Wanted = (subjects: readonly string[]) => boolean;

/** What somebody wants to be told, which may change at any time. */
export interface Interest {
  readonly wanted: Wanted;
  /** Whether anything of that may be about what changes all the time (see `BUSY_ENTITIES`). */
  readonly busy: () => boolean;
}

export const EVERYTHING: Interest = { wanted: () => true, busy: () => true };
