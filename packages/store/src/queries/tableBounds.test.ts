import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { createTestStore, type Seed, seed, type TestStore } from "@rootstock/testkit";

/** What keeps each table from growing as long as the hub lives. */

const HANDS = "what people have made and may delete, with what goes with it by cascade";
const AGE = "a sweep, by age";
const AGENTS = "agents, which go some time after they were deleted";
const ROWS = "a fixed number of rows";
const BOUNDS: Readonly<Record<string, string>> = {
  users: HANDS,
  user_identities: HANDS,
  allow_list: HANDS,
  invites: HANDS,
  projects: HANDS,
  project_providers: HANDS,
  groups: HANDS,
  group_memberships: HANDS,
  policies: HANDS,
  policy_bindings: HANDS,
  runtime_brokers: HANDS,
  runtime_broker_heartbeats: "one row for each runtime broker",
  broker_secrets: "two for each runtime broker; former ones by age",
  broker_join_tokens: "one for each runtime broker, and by age",
  agents: AGENTS,
  agent_kept_values: AGENTS,
  agent_config_values: AGENTS,
  agent_token_versions: AGENTS,
  notification_subscriptions: "who subscribes, and what they hear of: whichever goes first",
  messages: AGE,
  broker_dispatch: AGE,
  trace_hops: AGE,
  replica_names: AGE,
  idempotency_keys: AGE,
  change_log: "a sweep, by age and number",
  audit_log: AGE,
  seen_nonces: AGE,
  stream_frames: "taken as they come; a sweep, by age",
  sign_ins: AGE,
  login_codes: AGE,
  device_logins: AGE,
  user_code_tries: AGE,
  access_tokens: "a number for each person that count, and by age the others",
  auth_resets: AGE,
  auth_reset_agents: AGE,
  rate_buckets: "a sweep, once they are full",
  open_streams: "a sweep, once nothing is open",
  hub_replicas: "the replicas that live; others are buried",
  // A name and an id are given up to nobody but their owner for ever: what agents left on machines goes by them.
  former_projects: "one for each project that was ever deleted",
  former_slugs: "one for each slug and owner that gave it up",
  sweeps: ROWS,
  feed_meta: ROWS,
  feed_unbroken: ROWS,
  maintenance: ROWS,
  access_version: ROWS,
  schema_version: ROWS,
  schema_migrations: "one for each migration",
};

let store: TestStore;
let rows: Seed;

beforeAll(async () => {
  store = await createTestStore();
  rows = seed(store);
});
afterAll(() => store.drop());

test("of every table it is said what bounds it", async () => {
  const tables = await store.query<{ name: string }>(
    "select relname as name from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace",
  );
  expect(tables.map(({ name }) => name).sort()).toEqual(Object.keys(BOUNDS).sort());
});

test("what an agent has subscribed to goes with it", async () => {
  const project = await rows.project();
  const [agent, other] = [await rows.agent({ project_id: project }), await rows.agent({ project_id: project })];
  const subscribe = async (type: string, subscriber: string) => {
    const id = systemRandom.uuid();
    await store.query(
      `insert into notification_subscriptions (id, scope, subscriber_type, subscriber_id, project_id, trigger_activities,
         created_by) values ($1, 'project', $2, $3, $4, '[]', $3)`,
      [id, type, subscriber, project],
    );
    return id;
  };
  await subscribe("agent", agent);
  const kept = [await subscribe("agent", other), await subscribe("user", systemRandom.uuid())];
  await store.query("delete from agents where id = $1", [agent]);
  const left = await store.query<{ id: string }>("select id from notification_subscriptions where project_id = $1", [
    project,
  ]);
  expect(left.map(({ id }) => id).sort()).toEqual(kept.sort());
});

test("a slug that one person gives up again and again is kept once; others' claims to it stay", async () => {
  const [ann, bea] = [systemRandom.uuid(), systemRandom.uuid()];
  const renamed = async (owner: string) => {
    const id = await rows.project({ slug: "again", owner_id: owner });
    await store.query("update projects set slug = $2 where id = $1", [id, `other-${id}`]);
    return id;
  };
  const gone = async (owner: string) => {
    const id = await rows.project({ slug: "again", owner_id: owner });
    await store.query("delete from projects where id = $1", [id]);
    return id;
  };
  const first = await renamed(ann);
  await gone(ann);
  const last = await gone(ann);
  const others = await gone(bea);
  // It may have its name back, whoever owns it by then: what it says does not stand for what those say that are gone.
  const second = await renamed(ann);
  const kept = await store.query<{ project_id: string; owner_id: string }>(
    "select project_id, owner_id from former_slugs where slug = 'again'",
  );
  expect(new Set(kept.map((k) => `${k.project_id} ${k.owner_id}`))).toEqual(
    new Set([`${first} ${ann}`, `${last} ${ann}`, `${others} ${bea}`, `${second} ${ann}`]),
  );
});
