import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { loadMigrations, MIGRATIONS_DIR, migrate } from "@rootstock/store";
import {
  api,
  createTestDatabase,
  eventually,
  type ReplicaProcess,
  Scene,
  startReplicaProcess,
  testLog,
} from "@rootstock/testkit";

/** Invariant 9 with processes: this code as release N-1, beside a database that release N has migrated. */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const process = async (name: string, databaseUrl = scene.database.url): Promise<ReplicaProcess> => {
  const replica = await startReplicaProcess({ databaseUrl, name });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  return replica;
};

/** Migrates as the next release would, whose one more migration is this. */
const migrateAsNextRelease = async (sql: string): Promise<void> => {
  const dir = await mkdtemp(join(tmpdir(), "rootstock-migrations-"));
  scene.onEnd(() => rm(dir, { recursive: true, force: true }));
  await cp(MIGRATIONS_DIR, dir, { recursive: true });
  const next = String((await loadMigrations()).length + 1).padStart(4, "0");
  await writeFile(join(dir, `${next}_next_release.sql`), sql);
  await migrate({ url: scene.database.url, dir, log: testLog() });
};

/** Everything that a migration or a start could touch. */
const footprint = async (): Promise<unknown> => ({
  columns: await scene.database.query(
    "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' order by 1, 2",
  ),
  applied: await scene.database.query("select number, name, checksum from schema_migrations order by 1"),
  version: await scene.database.query("select version, min_compatible from schema_version"),
  users: await scene.database.query("select id from users order by 1"),
});

test("invariant 9: a replica of the release before restarts beside a newer compatible schema, serves, and migrates nothing", async () => {
  const running = await process("running");
  const project = await scene.project(running);
  await migrateAsNextRelease("-- compatible: yes\nalter table projects add column mood text;\n");
  const before = await footprint();
  const restarted = await process("restarted");
  const runtimeBroker = await scene.runtimeBroker(restarted);
  for (const replica of [running, restarted]) {
    expect((await api(replica, "GET", "/readyz")).status).toBe(200);
    const agent = await scene.agent(replica, project, `on-${replica.name}`);
    expect((await api(replica, "POST", `/api/v1/agents/${agent}/message`, { message: "hi" })).status).toBe(200);
  }
  expect(runtimeBroker.delivered).toHaveLength(2);
  expect(await footprint()).toEqual(before);
});

test("invariant 9: a replica of the release before is refused by an incompatible schema, clearly, and touches nothing", async () => {
  const running = await process("running");
  await migrateAsNextRelease("-- compatible: no\nalter table projects add column mood text not null default 'fine';\n");
  const before = await footprint();
  const refusal = await startReplicaProcess({ databaseUrl: scene.database.url, name: "late" }).then(
    () => "it started",
    (err: unknown) => String(err),
  );
  expect(refusal).toMatch(/ended \([1-9]\d*\)/);
  expect(refusal).toContain("Use a newer release of Rootstock");
  expect(await footprint()).toEqual(before);
  expect(await scene.database.query("select name from hub_replicas")).toEqual([{ name: "running" }]);
  // The one that runs on is taken out of the load balancer's hands.
  await eventually(async () => {
    const ready = await api(running, "GET", "/readyz");
    expect([ready.status, ready.get("reason")]).toEqual([503, "schema: this release is too old for the database"]);
  });
});

test("invariant 9: two replica processes started at once on an empty database: one migrates, both serve", async () => {
  const empty = await createTestDatabase({ migrated: false });
  try {
    const replicas = await Promise.all([process("one", empty.url), process("two", empty.url)]);
    for (const replica of replicas) expect((await api(replica, "GET", "/readyz")).status).toBe(200);
    const applied = await empty.query<{ number: number }>("select number from schema_migrations order by 1");
    expect(applied.map((m) => m.number)).toEqual((await loadMigrations()).map((m) => m.number));
    const [one, two] = replicas;
    const project = one && (await scene.project(one));
    expect(two && (await api(two, "GET", `/api/v1/projects/${project}`)).status).toBe(200);
    for (const replica of replicas) await replica.stop();
  } finally {
    await empty.drop();
  }
});
