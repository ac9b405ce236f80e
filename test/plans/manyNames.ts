import type { TestDatabase } from "@rootstock/testkit";

/** How many of each `writeManyNames` writes. */
export const NAMES = 10_000;

/**
 * People, runtime brokers that are away, projects of others, addresses that are allowed, invites, and an audit log as long as
 * all of them together.
 */
export const writeManyNames = async (database: TestDatabase): Promise<void> => {
  const each = `generate_series(1, ${NAMES}) n`;
  const age = "now() - n * interval '1 minute'";
  for (const rows of [
    `users (id, email, display_name, created, last_seen)
       select gen_random_uuid(), 'named-' || n || '@example.org', 'named ' || n, ${age}, ${age} from ${each}`,
    `runtime_brokers (id, name, slug, created) select gen_random_uuid(), 'named-' || n, 'named-' || n, ${age} from ${each}`,
    `projects (id, name, slug, owner_id, created)
       select gen_random_uuid(), 'named ' || n, 'named-' || n, gen_random_uuid(), ${age} from ${each}`,
    `allow_list (id, email, created) select gen_random_uuid(), 'named-' || n || '@example.org', ${age} from ${each}`,
  ])
    await database.query(`begin; set local session_replication_role = replica; insert into ${rows}; commit`);
  await database.query(
    `insert into audit_log (at, action, success, actor_kind, actor_id, actor_email, target_type, target_id, target_name, details)
     select now() - n * interval '1 second', 'project_changed', n % 10 > 0, 'user', gen_random_uuid(), 'named@example.org',
       'project', gen_random_uuid()::text, 'named', '{}' from generate_series(1, ${5 * NAMES}) n`,
  );
  await database.query("analyze users, runtime_brokers, projects, allow_list, audit_log");
};
