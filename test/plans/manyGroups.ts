import type { TestDatabase } from "@rootstock/testkit";

/** Groups in chains of eight, policies bound to them, and the person and the agent in some of the innermost. */
export const writeManyGroups = async (
  database: TestDatabase,
  { userId, agentId }: { readonly userId: string; readonly agentId: string },
): Promise<void> => {
  const run = (sql: string, values: readonly unknown[] = []) => database.query(sql, values);
  await run(`insert into users (id, email) select gen_random_uuid(), 'many-' || n || '@example.org'
    from generate_series(1, 1000) n`);
  await run(
    `insert into groups (id, name, slug) select gen_random_uuid(), 'g', 'nested-' || n from generate_series(0, 999) n`,
  );
  await run(`insert into group_memberships (group_id, child_group_id) select o.id, i.id from generate_series(0, 999) n
    join groups i on i.slug = 'nested-' || n join groups o on o.slug = 'nested-' || (n + 1) where n % 8 <> 7`);
  await run(`insert into policies (id, name, scope_type, actions, effect) select gen_random_uuid(), 'many', 'hub',
    '{update}', 'allow' from generate_series(1, 5000)`);
  await run(`insert into policy_bindings (policy_id, group_id)
    select p.id, g.id from (select id, row_number() over () as n from policies where name = 'many') p
      join groups g on g.slug = 'nested-' || (p.n % 1000)`);
  await run(
    "insert into group_memberships (group_id, user_id) select id, $1 from groups where slug in ('nested-0', 'nested-80')",
    [userId],
  );
  await run("insert into group_memberships (group_id, agent_id) select id, $1 from groups where slug = 'nested-16'", [
    agentId,
  ]);
};
