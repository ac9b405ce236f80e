import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { noteCookies, noteSecrets, noteSecretsIn, noteSecretsSent, recordLog, searchRun } from "./runRecord.ts";

let dir: string;
const runDirectory = process.env.TEST_RUN_DIRECTORY;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "rootstock-run-"));
  process.env.TEST_RUN_DIRECTORY = dir;
});
afterEach(() => {
  process.env.TEST_RUN_DIRECTORY = runDirectory;
  if (runDirectory === undefined) delete process.env.TEST_RUN_DIRECTORY;
  rmSync(dir, { recursive: true });
});

const logged = async (...lines: readonly string[]) => {
  const log = recordLog("replica 1");
  for (const line of lines) log?.write(line);
  await log?.end();
  return searchRun(dir);
};

const jwt = (signature: string) => `eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0xxx.${signature.repeat(6)}`;

test.each([
  ["a token inside a word", `{"url":"/x?token=${jwt("secret")}&a=b"}`],
  ["a phrase", '{"msg":"the pass phrase of all of us, no less"}'],
  ["a key beside others of its beginning", `${jwt("other1")} ${jwt("secret")}`],
])("%s is found in the log of a run, and not repeated", async (_, line) => {
  noteSecrets("the pass phrase of all of us", jwt("third1"));
  noteSecretsIn(`{"accessToken":"${jwt("secret")}","expiresIn":900}`);
  const { leaks, secrets, lines } = await logged('{"msg":"request"}', line);
  expect([secrets, lines, leaks.length]).toEqual([3, 2, 1]);
  expect(leaks[0]?.line).toContain("[SECRET]");
  expect(leaks[0]?.line).not.toContain(jwt("secret"));
});

test("what a test sends to get in, gives an agent and is given as a cookie is found as well", async () => {
  const sent = {
    config: { env: { KEY: "given-in-the-configuration" } },
    more: [{ env: { KEY: "given-further-down" } }],
  };
  noteSecretsSent({ authorization: `Bearer ${jwt("bearer")}`, "x-other": "rubbish of some length" }, sent);
  noteCookies(new Headers({ "set-cookie": "session=the-sealed-session-cookie; Path=/" }));
  const lines = ["given-in-the-configuration", "given-further-down", jwt("bearer"), "the-sealed-session-cookie"];
  const { secrets, leaks } = await logged(...lines, "rubbish of some length");
  expect([secrets, leaks.length]).toEqual([4, 4]);
});

test("what is no secret, or too short to tell, is left in peace", async () => {
  noteSecrets("short", undefined);
  noteSecretsIn('{"code":"idempotency_key_reused","name":"a name that is long enough"}');
  expect(await logged("short idempotency_key_reused", "a name that is long enough")).toMatchObject({
    secrets: 0,
    leaks: [],
  });
});
