import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { ConfigValues } from "../agentTables.ts";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { uuidArray } from "./uuidArray.ts";

/** What configurations give agents' containers, sealed: apart from the rest of them, which everybody who lists agents reads. */

/** The parts of a configuration that are kept sealed. */
export const CONFIG_VALUES = ["env", "inlineConfig"] as const satisfies readonly (keyof ConfigValues)[];
export type ConfigValueName = (typeof CONFIG_VALUES)[number];

export interface SealedConfigValue {
  readonly agentId: Uuid;
  readonly name: ConfigValueName;
  readonly value: Buffer;
}

/**
 * Has the schema ask for code that looks for sealed values (design 9): agents that other code started would lack theirs, and
 * nobody would be told. To be called before the first is sealed; harmless when called again.
 */
export const demandSealedConfigs = async (db: Db): Promise<void> => {
  await sql`
    update schema_version v set min_compatible = m.number from schema_migrations m
     where substr(m.name, 6) = 'config_values.sql' and v.min_compatible < m.number`.execute(db);
};

/** Keeps the values; others of the same agents and names are replaced. */
export const keepConfigValues = async (db: Db, values: readonly SealedConfigValue[]): Promise<void> => {
  if (values.length === 0) return;
  await db
    .insertInto("agent_config_values")
    .values(values.map(({ agentId, name, value }) => ({ agent_id: agentId, name, value })))
    .onConflict((c) => c.columns(["agent_id", "name"]).doUpdateSet({ value: sql`excluded.value` }))
    .execute();
};

/** Everything kept for these agents, in no order. */
export const configValues = async (db: Db, agentIds: readonly Uuid[]): Promise<readonly SealedConfigValue[]> => {
  const { rows } = await sql<SealedConfigValue>`
    select agent_id as "agentId", name, value from agent_config_values where agent_id = any(${uuidArray(agentIds)}::uuid[])`.execute(
    db,
  );
  return rows;
};

/** A part of a configuration that is not sealed. */
export interface UnsealedConfigValue {
  readonly agentId: Uuid;
  readonly name: ConfigValueName;
  /** JSON, as the database writes it. */
  readonly json: string;
}

/** The parts that are not sealed of the first agents with an id after `after`, ordered by id; at most `limit` agents. */
export const unsealedConfigValues = async (
  db: Db,
  p: { readonly after: Uuid | undefined; readonly limit: number },
): Promise<readonly UnsealedConfigValue[]> => {
  const { rows } = await sql<UnsealedConfigValue>`
    select a.id as "agentId", part.key as name, part.value::text as json
      from (select id, applied_config from agents
             where applied_config ?| array['env', 'inlineConfig'] and (${p.after ?? null}::uuid is null or id > ${p.after ?? null}::uuid)
             order by id limit ${p.limit}) a
     cross join lateral jsonb_each(a.applied_config) part
     where part.key = any(${[...CONFIG_VALUES]}::text[])
     order by a.id`.execute(db);
  return rows;
};

/** How many agents have a configuration of which something is not sealed. */
export const countUnsealedConfigs = async (db: Db): Promise<number> => {
  const { rows } = await sql<{ n: number }>`
    select count(*)::int as n from agents where applied_config ?| array['env', 'inlineConfig']`.execute(db);
  return rows[0]?.n ?? 0;
};

/** What became of a part that was not sealed. */
export interface NewlySealed extends UnsealedConfigValue {
  readonly value: Buffer;
}

/**
 * Puts the sealed forms in the place of what was read, where that still stands: what was changed meanwhile is left to
 * another time. Returns how many parts it replaced.
 */
export const replaceUnsealed = (db: Db, values: readonly NewlySealed[]): Promise<number> =>
  transaction(db, async (tx) => {
    // Locked in the order in which everybody locks them, and compared as they are then.
    const { rows } = await sql<{ at: number }>`
      with given as (
        select v.* from unnest(${uuidArray(values.map((v) => v.agentId))}::uuid[], ${values.map((v) => v.name)}::text[],
          ${values.map((v) => v.json)}::text[]) with ordinality as v(agent_id, name, json, place)),
      locked as (
        select id, applied_config from agents where id in (select agent_id from given) order by id for no key update)
      select (g.place - 1)::int as at from given g join locked l on l.id = g.agent_id
       where l.applied_config -> g.name = g.json::jsonb`.execute(tx);
    const standing = rows.flatMap(({ at }) => values[at] ?? []);
    if (standing.length === 0) return 0;
    await keepConfigValues(tx, standing);
    await sql`
      update agents a set applied_config = (a.applied_config - s.names) || jsonb_build_object('valuesVersion',
          coalesce((a.applied_config ->> 'valuesVersion')::int, 0) + 1)
        from (select agent_id, array_agg(name) as names
                from unnest(${uuidArray(standing.map((v) => v.agentId))}::uuid[], ${standing.map((v) => v.name)}::text[]) as v(agent_id, name)
               group by agent_id) s
       where a.id = s.agent_id`.execute(tx);
    return standing.length;
  });
