import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  type ConfigValues,
  findAgent,
  loadMigrations,
  replaceUnsealed,
  type StoredConfig,
  transaction,
} from "@rootstock/store";
import { createTestStore, seed, type TestStore, testBase } from "@rootstock/testkit";
import { AgentConfigs } from "./agentConfigs.ts";
import { SecretBoxError } from "./errors.ts";
import { SecretBox } from "./secretBox.ts";

/** Configurations as this release keeps them, and the one before it (all in the agent's row, open). */

const base = testBase();
const box = new SecretBox({ secrets: ["a shared secret of at least 32 bytes"], ...base });
const GIVEN: ConfigValues = { env: { KEY: "one" }, inlineConfig: { env: { KEY: "one" }, max_turns: 3 } };

let tested: TestStore;
let older: boolean;
let configs: AgentConfigs;
let project: string;
let id: string;
beforeEach(async () => {
  tested = await createTestStore();
  older = false;
  configs = new AgentConfigs(base, { db: tested.db, box, olderReplicas: () => older });
  project = await seed(tested).project();
  id = await agent();
});
afterEach(() => tested.drop());

const agent = (): Promise<string> => {
  const slug = base.random.uuid();
  return seed(tested).agent({ project_id: project, slug, applied_config: JSON.stringify({ image: "i" }) });
};
const row = async (of = id) => {
  const found = await findAgent(tested.db, of);
  if (!found) throw new Error("no agent");
  return found;
};
const write = (config: StoredConfig) =>
  tested.query("update agents set applied_config = $2 where id = $1", [id, JSON.stringify(config)]);
/** As the routes do, on this release. */
const give = async (values: ConfigValues): Promise<void> => {
  const kept = await configs.kept(id, values);
  const config = kept.over((await row()).applied_config);
  await transaction(tested.db, async (tx) => {
    await kept.keep(tx);
    await write(config);
  });
};
/** And as on the release before. */
const giveBefore = async (values: ConfigValues): Promise<void> => {
  await write({ ...(await row()).applied_config, ...values });
};
const shown = async (of = id) => (await configs.shown([await row(of)])).get(of);

test("values are opened where they were sealed; what was not given stays", async () => {
  expect(await configs.of(await row())).toEqual({});
  await give(GIVEN);
  expect(await configs.of(await row())).toEqual(GIVEN);
  await give({ inlineConfig: { max_turns: 4 } });
  expect(await configs.of(await row())).toEqual({ env: GIVEN.env, inlineConfig: { max_turns: 4 } });
  expect(await shown()).toEqual(await configs.of(await row()));
  expect((await row()).applied_config).toEqual({ image: "i", valuesVersion: 2 });
});

const oldestCode = async () =>
  (await tested.query<{ oldest: number }>("select min_compatible as oldest from schema_version"))[0]?.oldest;

test("during a rollout values lie where the release before finds them; afterwards they are sealed, and it may not come back", async () => {
  const before = await oldestCode();
  older = true;
  await give(GIVEN);
  expect((await row()).applied_config).toEqual({ image: "i", ...GIVEN });
  expect(await configs.of(await row())).toEqual(GIVEN);
  expect(await configs.sealAll(tested.database)).toBe(0);
  older = false;
  expect(await shown()).toEqual(GIVEN);
  expect(await configs.kept(id, {})).toBeDefined();
  expect(await oldestCode()).toBe(before);
  expect(await configs.sealAll(tested.database)).toBe(2);
  expect((await row()).applied_config).toEqual({ image: "i", valuesVersion: 1 });
  expect(await configs.of(await row())).toEqual(GIVEN);
  const migrations = await loadMigrations();
  expect(await oldestCode()).toBe(migrations.find(({ name }) => name.endsWith("_config_values.sql"))?.number);
});

test("what the release before writes over sealed values is the newer, and is sealed in their place", async () => {
  await give(GIVEN);
  await giveBefore({ inlineConfig: { max_turns: 9 } });
  const now = { env: GIVEN.env, inlineConfig: { max_turns: 9 } };
  expect(await configs.of(await row())).toEqual(now);
  expect(await shown()).toEqual(now);
  expect(await configs.sealAll(tested.database)).toBe(1);
  expect(await configs.of(await row())).toEqual(now);
  // Given on this release, it takes the place of what lies open.
  await giveBefore({ env: { KEY: "before" } });
  await give({ env: { KEY: "after" } });
  expect(await configs.of(await row())).toEqual({ ...now, env: { KEY: "after" } });
  expect(await configs.sealAll(tested.database)).toBe(0);
});

test("a configuration that changes while it is sealed keeps what it was changed to", async () => {
  await giveBefore(GIVEN);
  const meddling = new AgentConfigs(base, {
    db: tested.db,
    olderReplicas: () => false,
    box: {
      open: (...args) => box.open(...args),
      seal: async (...args) => {
        await giveBefore({ env: { KEY: "two" } });
        return box.seal(...args);
      },
    },
  });
  expect(await meddling.sealAll(tested.database)).toBe(1);
  expect(await configs.of(await row())).toEqual({ ...GIVEN, env: { KEY: "two" } });
  expect(await configs.sealAll(tested.database)).toBe(1);
  expect(await configs.of(await row())).toEqual({ ...GIVEN, env: { KEY: "two" } });
});

test("two replicas that seal at once do the work once, page by page", async () => {
  const others = await Promise.all(Array.from({ length: 430 }, () => agent()));
  await tested.query("update agents set applied_config = applied_config || $1", [JSON.stringify(GIVEN)]);
  const sealed = await Promise.all([configs.sealAll(tested.database), configs.sealAll(tested.database)]);
  expect(sealed.reduce((a, b) => a + b)).toBe(2 * (others.length + 1));
  for (const other of others.slice(0, 3)) expect(await configs.of(await row(other))).toEqual(GIVEN);
});

test("an agent that is deleted while it is sealed is gone", async () => {
  await giveBefore(GIVEN);
  await tested.query("delete from agents");
  const value = await box.seal("agent-config-value", `${id} env`, Buffer.from("{}"));
  expect(await replaceUnsealed(tested.db, [{ agentId: id, name: "env", json: "{}", value }])).toBe(0);
});

test("what cannot be opened is told where it is needed, and left out where it is shown beside others", async () => {
  await give(GIVEN);
  const other = await agent();
  await tested.query("update agent_config_values set value = '\\x00' where agent_id = $1", [id]);
  await expect(configs.of(await row())).rejects.toThrow(SecretBoxError);
  const both = await configs.shown([await row(), await row(other)]);
  expect([...both.keys()]).toEqual([other]);
  await tested.query("delete from agent_config_values");
  await expect(configs.of(await row())).rejects.toThrow(SecretBoxError);
});
