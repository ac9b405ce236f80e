import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { createTestDatabase, type TestDatabase } from "@rootstock/testkit";
import { type CompiledQuery, Kysely, PostgresDialect, sql } from "kysely";
import pg from "pg";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import type { Tables } from "../tables.ts";
import {
  claimRuntimeBrokers,
  findMismatches,
  heldByDatabase,
  releaseRuntimeBrokers,
  voidOlderClaims,
} from "./affinity.ts";
import { listSecrets } from "./brokerSecrets.ts";
import { applySelfReports, writeHeartbeats } from "./heartbeats.ts";
import { type ClaimScope, heldSockets } from "./heldSockets.ts";
import { recordNonces } from "./nonces.ts";

/** What a replica with ten thousand runtime brokers asks again and again is found by index, row by row. */

const COUNT = 10_000;
const hub = systemRandom.uuid();
const held = Array.from({ length: COUNT }, () => ({
  runtimeBrokerId: systemRandom.uuid(),
  sessionId: systemRandom.uuid(),
}));
const ids = held.map((h) => h.runtimeBrokerId);
const some = held.slice(0, 200);

let database: TestDatabase;
let pool: pg.Pool;
let db: Kysely<Tables>;
let queries: CompiledQuery[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  // As a replica's pool: plans are made to last, without knowing what will be asked.
  const settings = ["enable_seqscan=off", "enable_hashjoin=off", "enable_mergejoin=off", "jit=off"];
  pool = new pg.Pool({
    connectionString: database.url,
    max: 1,
    options: `${settings.map((s) => `-c ${s}`).join(" ")} -c plan_cache_mode=force_generic_plan`,
  });
  pool.on("error", () => {});
  db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }), log: (event) => void queries.push(event.query) });
  await database.query(
    "insert into runtime_brokers (id, name, slug) select id, id::text, id::text from unnest($1::uuid[]) as t(id)",
    [ids],
  );
  await database.query(
    "insert into broker_secrets (id, runtime_broker_id, secret) select gen_random_uuid(), id, 'x' from unnest($1::uuid[]) as t(id)",
    [ids],
  );
});
afterAll(async () => {
  await db.destroy();
  await database.drop();
});

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Rows Removed by Join Filter"?: number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Actual Loops": number;
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
  readonly Plans?: readonly Plan[];
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

test.each<[what: string, rows: number, ask: (db: Db) => Promise<unknown>]>([
  ["sockets claimed", 200, (tx) => claimRuntimeBrokers(tx, hub, some)],
  ["claims of older sessions", 200, (tx) => voidOlderClaims(tx, some)],
  ["sockets counted", COUNT, (tx) => heldByDatabase(tx, hub)],
  ["sockets compared", COUNT, (tx) => findMismatches(tx, hub, held)],
  ["sockets given up", COUNT, (tx) => releaseRuntimeBrokers(tx, hub, held)],
  [
    "sockets that may take work",
    COUNT,
    (tx) => {
      const sockets = held.map((h) => ({ ...h, slots: 1 }));
      const select = statement<ClaimScope, unknown>((given) => sql`with ${heldSockets(given)} select * from held`);
      return select(tx, { instanceId: hub, sockets, busyAgents: [] });
    },
  ],
  ["secrets", 200, (tx) => listSecrets(tx, ids.slice(0, 200))],
  [
    "nonces",
    200,
    (tx) =>
      recordNonces(
        tx,
        some.map((h) => ({ runtimeBrokerId: h.runtimeBrokerId, nonce: systemRandom.uuid() })),
      ),
  ],
  [
    "heartbeats",
    200,
    (tx) =>
      writeHeartbeats(
        tx,
        some.map((h) => ({ ...h, status: "online", capabilities: { sync: true } })),
      ),
  ],
  [
    "what runtime brokers say of themselves",
    200,
    (tx) =>
      applySelfReports(
        tx,
        some.map((h) => ({ ...h, status: "online", capabilities: { sync: true } })),
        90_000,
      ),
  ],
])("%s: look-ups alone, some for each of those named", async (_, rows, ask) => {
  await database.query(
    `update runtime_brokers r set connected_hub_id = $1, connected_session_id = t.session, disconnected_at = null,
        status = 'offline'
       from unnest($2::uuid[], $3::uuid[]) as t(id, session) where r.id = t.id`,
    [hub, ids, held.map((h) => h.sessionId)],
  );
  await database.query("vacuum analyze runtime_brokers");
  queries = [];
  const undone = new Error("undone");
  const plans: Plan[] = [];
  await db
    .transaction()
    .execute(async (tx) => {
      await ask(tx);
      throw undone;
    })
    .catch((err: unknown) => {
      if (err !== undone) throw err;
    });
  for (const query of queries.filter((q) => q.parameters.length > 0)) {
    const explained = await pool.query(`explain (analyze, buffers, timing off, format json) ${query.sql}`, [
      ...query.parameters,
    ]);
    plans.push(explained.rows[0]["QUERY PLAN"][0].Plan);
  }
  expect(plans.length).toBeGreaterThan(0);
  for (const plan of plans) {
    const nodes = nodesOf(plan);
    expect(nodes.filter((n) => n["Node Type"] === "Seq Scan").map((n) => n["Relation Name"])).toEqual([]);
    const removed = nodes.reduce(
      (sum, n) =>
        sum +
        ((n["Rows Removed by Join Filter"] ?? 0) + (n["Rows Removed by Filter"] ?? 0)) * Math.max(1, n["Actual Loops"]),
      0,
    );
    expect(removed).toBeLessThanOrEqual(2 * rows);
    expect((plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) / rows).toBeLessThan(40);
  }
});
