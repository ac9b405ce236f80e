import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { SEALED_COLUMNS, type SealedPurpose } from "@rootstock/store";
import { createTestStore, seed, type TestStore, testBase } from "@rootstock/testkit";
import { type ResealOptions, resealAll } from "./reseal.ts";
import type { RootSecrets } from "./rootSecrets.ts";
import { SecretBox } from "./secretBox.ts";

const base = testBase();
const former = "0123456789abcdef0123456789abcdef";
const present = "fedcba9876543210fedcba9876543210";
const boxOf = (secrets: RootSecrets, older = false) => new SecretBox({ secrets, ...base, olderReplicas: () => older });
const secretOf = (rowId: string) => Buffer.from(`the secret of ${rowId}`);

let tested: TestStore;
beforeEach(async () => {
  tested = await createTestStore();
});
afterEach(() => tested.drop());

/** Rows of every kind whose values these boxes sealed in turn. Returns how many of each kind. */
const store = async (count: number, ...boxes: readonly SecretBox[]): Promise<void> => {
  const rows = seed(tested);
  const project = await rows.project();
  const agent = await rows.agent({ project_id: project });
  const sealed = async (i: number, purpose: SealedPurpose, rowId: string) => {
    const box = boxes[i % boxes.length];
    if (!box) throw new Error("no box");
    return box.seal(purpose, rowId, secretOf(rowId));
  };
  for (let i = 0; i < count; i += 1) {
    const id = systemRandom.uuid();
    const runtimeBroker = await rows.runtimeBroker({ name: `machine-${i}` });
    await tested.query("insert into broker_secrets (id, runtime_broker_id, secret) values ($1, $2, $3)", [
      id,
      runtimeBroker,
      await sealed(i, "runtime-broker-secret", id),
    ]);
    await tested.query("insert into agent_kept_values (agent_id, key, value) values ($1, $2, $3)", [
      agent,
      `KEY ${i}`,
      await sealed(i, "agent-kept-value", `${agent} KEY ${i}`),
    ]);
    const configured = await rows.agent({ project_id: project });
    await tested.query("insert into agent_config_values (agent_id, name, value) values ($1, 'env', $2)", [
      configured,
      await sealed(i, "agent-config-value", `${configured} env`),
    ]);
    await tested.query(
      `insert into idempotency_keys (principal, key, method, path, body_hash, operation, status, answer, expires_at)
       values ('user:x', $1, 'POST', '/', '', '{}', 200, $2, now() + interval '1 day')`,
      [`key-${i}`, await sealed(i, "idempotency-answer", `user:x key-${i}`)],
    );
  }
  await tested.query(
    `insert into idempotency_keys (principal, key, method, path, body_hash, operation, expires_at)
     values ('user:x', 'under way', 'POST', '/', '', '{}', now())`,
  );
};

/** What each stored value opens to with this box alone. */
const opened = async (box: SecretBox): Promise<readonly string[]> => {
  const found: string[] = [];
  for (const [purpose, { table, key, value }] of Object.entries(SEALED_COLUMNS)) {
    const id = key.map(([column]) => `${column}::text`).join(` || ' ' || `);
    const rows = await tested.query<{ id: string; value: Buffer }>(
      `select ${id} as id, ${value} as value from ${table} where ${value} is not null`,
    );
    for (const row of rows) {
      const plain = await box.open(purpose as SealedPurpose, row.id, row.value).catch(() => "closed");
      found.push(plain.toString() === secretOf(row.id).toString() ? "right" : plain.toString());
    }
  }
  return found;
};

const options = (box: ResealOptions["box"], chunkRows = 2) => ({ db: tested.db, box, chunkRows });

test("afterwards the former secret opens nothing and is needed for nothing, whatever had sealed a value", async () => {
  await store(7, boxOf([former]), boxOf([former], true), boxOf([present, former]));
  expect(await opened(boxOf([present]))).toContain("closed");
  const done = await resealAll(base, options(boxOf([present, former])));
  expect(done).toEqual({
    // Of seven values in turn, two are sealed as they should be already.
    resealed: {
      "runtime-broker-secret": 5,
      "agent-kept-value": 5,
      "agent-config-value": 5,
      "idempotency-answer": 5,
    },
    unreadable: [],
    overtaken: false,
  });
  expect(await opened(boxOf([present]))).toEqual(Array.from({ length: 28 }, () => "right"));
  expect(await opened(boxOf([former]))).toEqual(Array.from({ length: 28 }, () => "closed"));
});

test("twice changes nothing, and two at once do the work once", async () => {
  await store(9, boxOf([former]));
  const box = boxOf([present, former]);
  const both = await Promise.all([resealAll(base, options(box)), resealAll(base, options(box, 3))]);
  const sum = both.reduce((n, r) => n + Object.values(r.resealed).reduce((a, b) => a + b, 0), 0);
  expect(sum).toBe(36);
  const before = await tested.query("select value from agent_kept_values order by key");
  expect(Object.values((await resealAll(base, options(box))).resealed)).toEqual([0, 0, 0, 0]);
  expect(await tested.query("select value from agent_kept_values order by key")).toEqual(before);
  expect(await opened(boxOf([present]))).toEqual(Array.from({ length: 36 }, () => "right"));
});

test("a value that is replaced while it is sealed anew keeps what replaced it", async () => {
  await store(1, boxOf([former]));
  const box = boxOf([present, former]);
  const [row] = await tested.query<{ agent_id: string }>("select agent_id from agent_kept_values");
  const rowId = `${row?.agent_id} KEY 0`;
  const newer = await boxOf([former]).seal("agent-kept-value", rowId, Buffer.from("newer"));
  let meddled = false;
  const meddling: ResealOptions["box"] = {
    presentHead: () => box.presentHead(),
    seal: (...args: Parameters<SecretBox["seal"]>) => box.seal(...args),
    open: async (...args: Parameters<SecretBox["open"]>) => {
      if (args[0] === "agent-kept-value" && !meddled) {
        meddled = true;
        await tested.query("update agent_kept_values set value = $1", [newer]);
      }
      return box.open(...args);
    },
  };
  const done = await resealAll(base, options(meddling));
  expect(done.overtaken).toBe(false);
  const [kept] = await tested.query<{ value: Buffer }>("select value from agent_kept_values");
  const plain = await boxOf([present]).open("agent-kept-value", rowId, kept?.value ?? Buffer.alloc(0));
  expect(plain.toString()).toBe("newer");
});

test("what no configured key opens is told and left as it is", async () => {
  await store(2, boxOf(["x".repeat(32)]), boxOf([former]));
  const done = await resealAll(base, options(boxOf([present, former])));
  expect(done.unreadable.map((u) => u.purpose).sort()).toEqual([
    "agent-config-value",
    "agent-kept-value",
    "idempotency-answer",
    "runtime-broker-secret",
  ]);
  expect(done.resealed["runtime-broker-secret"]).toBe(1);
  expect(done.overtaken).toBe(false);
});

test("replicas that go on sealing under the former secret are noticed", async () => {
  await store(1, boxOf([former]));
  const box = boxOf([present, former]);
  const [row] = await tested.query<{ agent_id: string }>("select agent_id from agent_kept_values");
  let n = 1_000;
  const overtaken: ResealOptions["box"] = {
    presentHead: () => box.presentHead(),
    open: (...args: Parameters<SecretBox["open"]>) => box.open(...args),
    seal: async (...args: Parameters<SecretBox["seal"]>) => {
      // Always before where the run is now.
      const rowId = `${row?.agent_id} again ${n--}`;
      const value = await boxOf([former]).seal("agent-kept-value", rowId, Buffer.from("again"));
      const key = rowId.slice(37);
      await tested.query("insert into agent_kept_values (agent_id, key, value) values ($1, $2, $3)", [
        row?.agent_id,
        key,
        value,
      ]);
      return box.seal(...args);
    },
  };
  expect((await resealAll(base, options(overtaken))).overtaken).toBe(true);
});

test("every column of bytes is sealed and gone through, or known to be no secret", async () => {
  const columns = await tested.query<{ name: string }>(
    `select table_name || '.' || column_name as name from information_schema.columns
      where table_schema = 'public' and data_type = 'bytea'`,
  );
  const sealed = Object.values(SEALED_COLUMNS).map(({ table, value }) => `${table}.${value}`);
  // Hashes, and what passes between replicas for as long as a stream is open.
  const others = [
    "access_tokens.token_hash",
    "device_logins.device_code_hash",
    "device_logins.user_code_hash",
    "idempotency_keys.body_hash",
    "invites.code_hash",
    "login_codes.code_hash",
    "stream_frames.body",
  ];
  expect(columns.map((c) => c.name).sort()).toEqual([...sealed, ...others].sort());
});
