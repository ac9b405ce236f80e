import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { SecretBox } from "@rootstock/hub";
import { systemClock, systemRandom } from "@rootstock/service";
import { createTestDatabase, heard, seed, type TestDatabase } from "@rootstock/testkit";
import { EXIT } from "../exitCodes.ts";
import { run } from "../run.ts";

const [former, present] = ["the former secret of this hub 0123456789", "the present secret of this hub 0123456789"];
const box = (secret: string) => new SecretBox({ secrets: [secret], clock: systemClock, random: systemRandom });

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

const secrets = async (secret: string, ...flags: string[]) => {
  const out: string[] = [];
  const err: string[] = [];
  const env = { DATABASE_URL: database.url, ROOTSTOCK_SECRET: secret, ROOTSTOCK_LOG_LEVEL: "trace" };
  const code = await run(["secrets", ...flags], env, { out: (l) => out.push(l), err: heard(err) });
  return { code, out: out.join("\n"), err: err.join("\n") };
};

const keep = async (secret: string, key: string): Promise<string> => {
  const rows = seed(database);
  const agent = await rows.agent({ project_id: await rows.project({ slug: key, name: key }) });
  const value = await box(secret).seal("agent-kept-value", `${agent} ${key}`, Buffer.from("kept"));
  await database.query("insert into agent_kept_values (agent_id, key, value) values ($1, $2, $3)", [agent, key, value]);
  return `${agent} ${key}`;
};

test("rewrap moves what is stored to the first secret, check tells whether the former may go", async () => {
  const row = await keep(former, "a");
  const both = `${present},${former}`;
  const before = await secrets(both, "rewrap", "--check");
  expect([before.code, before.err]).toEqual([EXIT.failed, expect.stringContaining("still needed")]);
  expect(before.out).toMatch(/values kept for agents +1 under a former key/);

  const done = await secrets(both, "rewrap");
  expect(done).toMatchObject({ code: EXIT.ok, err: "" });
  expect(done.out).toMatch(/values kept for agents +1 encrypted anew[\s\S]*former keys may go$/);
  const [stored] = await database.query<{ value: Buffer }>("select value from agent_kept_values");
  const plain = await box(present).open("agent-kept-value", row, stored?.value ?? Buffer.alloc(0));
  expect(plain.toString()).toBe("kept");
  expect((await secrets(both, "rewrap", "--check")).code).toBe(EXIT.ok);
  expect((await secrets(present, "rewrap", "--check")).code).toBe(EXIT.ok);
});

test("what a configuration gives, stored open by a release before, is counted by check and encrypted", async () => {
  const agent = await seed(database).agent({
    project_id: await seed(database).project(),
    applied_config: JSON.stringify({ image: "i", env: { KEY: "hush" }, inlineConfig: { env: { KEY: "hush" } } }),
  });
  const before = await secrets(present, "rewrap", "--check");
  expect([before.code, before.err]).toEqual([
    EXIT.failed,
    "rootstock: agents whose configuration is not encrypted yet: 1",
  ]);
  const done = await secrets(present, "rewrap");
  expect(done).toMatchObject({ code: EXIT.ok, err: "" });
  expect(done.out).toMatch(/values that lay open +2 encrypted/);
  expect(await database.query("select applied_config from agents")).toEqual([
    { applied_config: { image: "i", valuesVersion: 1 } },
  ]);
  const [env] = await database.query<{ value: Buffer }>("select value from agent_config_values where name = 'env'");
  const plain = await box(present).open("agent-config-value", `${agent} env`, env?.value ?? Buffer.alloc(0));
  expect(JSON.parse(plain.toString())).toEqual({ KEY: "hush" });
  expect((await secrets(present, "rewrap", "--check")).code).toBe(EXIT.ok);
});

test("a value that no secret opens is told and fails the command; nothing of any secret is printed", async () => {
  const row = await keep("another secret of this hub 0123456789", "lost");
  const done = await secrets(`${present},${former}`, "rewrap");
  expect([done.code, done.err]).toEqual([EXIT.failed, expect.stringContaining(row)]);
  for (const secret of [former, present]) expect(done.out + done.err).not.toContain(secret);
});

test("beside a replica of a release that could not read the new form, nothing is touched", async () => {
  await keep(former, "a");
  const before = await database.query("select value from agent_kept_values");
  await seed(database).replica({ version: "0.2.0" });
  const refused = await secrets(`${present},${former}`, "rewrap");
  expect([refused.code, refused.err]).toEqual([EXIT.failed, expect.stringContaining("finish the rollout first")]);
  expect(await database.query("select value from agent_kept_values")).toEqual(before);
});

test("wrong configuration is told all at once, without the secret", async () => {
  const refused = await secrets("short-secret", "rewrap", "--kms", "file:/nowhere/keys.json");
  expect(refused.code).toBe(EXIT.usage);
  expect(refused.err).toMatch(/ROOTSTOCK_SECRET: must be at least 32 bytes/);
  expect(refused.err).toMatch(/ROOTSTOCK_KMS: \/nowhere\/keys.json cannot be read/);
  expect(refused.err).not.toContain("short-secret");
});
