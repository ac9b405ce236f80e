import { Breather, type Clock } from "@rootstock/service";

/** So long, in milliseconds, is a call kept at most by each step for the sake of others that come with it. */
const MAX_PAUSE_MS = 15;

/** What the steps of a message do under load: each statement serves what has come since the last, and a little more. */
export const breatherOf = (clock: Clock): Breather => new Breather(clock, MAX_PAUSE_MS);
