import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/**
 * Whether a runtime broker has said that terminals cannot be had on it, or not with this profile (spec/08 1.6). One that
 * says nothing of it has them: the original never does.
 */
export const refusesAttach = async (
  db: Db,
  p: { readonly runtimeBrokerId: Uuid; readonly profile: string | undefined },
): Promise<boolean> => {
  const { rows } = await sql<{ refuses: boolean }>`
    select r.capabilities -> 'attach' is not distinct from 'false'::jsonb or exists (
        select from jsonb_array_elements(r.profiles) as f(profile)
         where f.profile ->> 'name' = ${p.profile ?? null} and f.profile -> 'attach' = 'false'::jsonb) as refuses
      from runtime_brokers r where r.id = ${p.runtimeBrokerId}`.execute(db);
  return rows[0]?.refuses ?? false;
};
