import { sql } from "kysely";

/**
 * Until when an intent that is given back waits to be claimed again. The time that it was under way does not count where the
 * next attempt begins by asking what became of it: one that had taken longer than its deadline allows would never be asked
 * about, and an agent that runs would count as failed. What ends a run is simply repeated, and keeps its deadline.
 */
export const waitsUntil = sql`(case when op in ('stop', 'suspend', 'restart', 'delete') then deadline_at
    else deadline_at + coalesce(now() - claimed_at, '0') end)`;
