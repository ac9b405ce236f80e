import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { createLog } from "@rootstock/service";
import { eventually } from "./eventually.ts";
import { heard, recordFiles, recordOutput, runCommand, testLog } from "./recordedLogs.ts";
import {
  faultsIn,
  noteAnswerHeaders,
  noteFault,
  noteSecrets,
  noteSecretsGiven,
  noteSecretsIn,
  noteSecretsOfEnvironment,
  noteSecretsSent,
  noteSecretsTaken,
  recordLog,
  secretsIn,
} from "./runRecord.ts";
import { searchRun } from "./runSearch.ts";

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
const basic = (both: string) => `{"a":"Basic ${Buffer.from(both).toString("base64")}"}`;
const KEY = Buffer.alloc(32, 251).toString("base64");

test.each([
  ["a token inside a word", `{"url":"/x?token=${jwt("secret")}&a=b"}`],
  ["a phrase", '{"msg":"the pass phrase of all of us, no less"}'],
  ["a key beside others of its beginning", "the-same-beginning-of-another the-same-beginning-of-it"],
  ["a short code", '{"path":"/device?user_code=WDJB-MJHT"}'],
  ["a short code in an address in an address", '{"path":"/login?returnTo=%2Fdevice%3Fuser_code%3DWDJB-MJHT"}'],
  ["a short code at the beginning of a line", String.raw`{"stack":"Error: asked for\nWDJB-MJHT\n    at once"}`],
  ["the same in JSON within JSON", String.raw`{"body":"{\"said\":\"so:\\nWDJB-MJHT\"}"}`],
  ["one in an address", `{"path":"/x/${encodeURIComponent("a+b/c=d&e and more of it")}"}`],
  ["one in JSON within JSON", String.raw`{"body":"{\"k\":\"with \\\"quotes\\\" in it\"}"}`],
  ["the first of two in a header", basic("name-of-a-client:k")],
  ["the second of two in a header", basic("k:name-of-a-client:k")],
  ["the second behind a longer one", basic("k2:name-of-a-client:k")],
  ["the second behind one still longer", basic("key:name-of-a-client:k")],
])("%s is found in the log of a run, and not repeated", async (_, line) => {
  noteSecrets("the pass phrase of all of us", jwt("third1"), "WDJB-MJHT", "a+b/c=d&e and more of it");
  noteSecrets('with "quotes" in it', "name-of-a-client:k", "the-same-beginning-of-it");
  noteSecretsIn(`{"accessToken":"${jwt("secret")}","expiresIn":900}`);
  const { leaks, secrets, lines } = await logged('{"msg":"request"}', line);
  expect([secrets, lines, leaks.length]).toEqual([8, 2, 1]);
  expect(leaks[0]?.line).toContain("[SECRET]");
  for (const secret of [jwt("secret"), "WDJB-MJHT"]) expect(leaks[0]?.line).not.toContain(secret);
});

/** How each kind of secret comes to be known, and what of it a log might hold. */
const KINDS: readonly (readonly [kind: string, note: () => void, ...leaked: string[]])[] = [
  ["a bearer", () => noteSecretsSent({ authorization: `Bearer ${jwt("bearer")}` }, {}), jwt("bearer")],
  [
    "an environment that a test gives",
    () => noteSecretsSent({}, { config: { env: { KEY: "given-12" } }, more: [{ env: { K: "given further down" } }] }),
    "given-12",
    "given further down",
  ],
  ["one that a machine got", () => noteSecretsGiven({ resolvedEnv: { KEY: "resolved-1" } }), "resolved-1"],
  [
    "a cookie",
    () => noteAnswerHeaders(new Headers({ "set-cookie": "session=the.sealed~session*cookie; Path=/" })),
    "the.sealed~session*cookie",
  ],
  [
    "what a redirection carries",
    () =>
      noteAnswerHeaders(new Headers({ location: "http://p/?state=st4te-st4te&nonce=n0nce-n0nce&code=a-c0de-a-c0de" })),
    "st4te-st4te",
    "n0nce-n0nce",
    "a-c0de-a-c0de",
  ],
  [
    "a machine's key",
    () => noteSecretsIn({ secretKey: KEY }),
    KEY,
    Buffer.from(KEY, "base64").toString("hex"),
    Buffer.from(KEY, "base64").toString("base64url"),
  ],
  ["one in a body made for people", () => noteSecretsIn('{\n  "accessToken" : "for-pe0ple"\n}'), "for-pe0ple"],
  ["a join token", () => noteSecretsIn({ joinToken: "scion_join_x" }), "scion_join_x"],
  ["an invite", () => noteSecretsIn({ code: `scion_inv_${"i".repeat(30)}` }), `scion_inv_${"i".repeat(30)}`],
  [
    "a device's codes",
    () => noteSecretsIn({ deviceCode: "d3vice-c0de", userCode: "BCDF-GHJK" }),
    "d3vice-c0de",
    "BCDF-GHJK",
  ],
  ["a verifier", () => noteSecretsIn("https://p/token?code_verifier=v3rifier-of-it"), "v3rifier-of-it"],
  ["a ticket", () => noteSecretsIn({ ticket: "t1cket-t1cket" }), "t1cket-t1cket"],
  [
    "secrets of a process",
    () =>
      noteSecretsOfEnvironment({
        ROOTSTOCK_SECRET: "the present one of them,the former one of them",
        ROOTSTOCK_OIDC_CLIENT_SECRET: "client-s3cret",
        ROOTSTOCK_METRICS_TOKEN: "scr4pe-token",
        DATABASE_URL: "postgres://me:p4ssw0rd-of-it@h/d",
        ROOTSTOCK_NAME: "no secret",
      }),
    "the former one of them",
    "client-s3cret",
    "scr4pe-token",
    "p4ssw0rd-of-it",
  ],
];

test.each(KINDS)("known and found: %s", async (_, note, ...leaked) => {
  note();
  expect([...secretsIn(dir)]).toEqual(expect.arrayContaining(leaked));
  const { leaks } = await logged(...leaked.map((secret) => `{"field":"${secret}"}`), '{"msg":"no secret at all"}');
  expect(leaks).toHaveLength(leaked.length);
});

test("a record that cannot be read fails the run: it does not pass for one of a run without secrets", async () => {
  noteSecrets("kn0wn-secret");
  noteFault("an answer that nobody declared");
  for (const file of ["secrets.jsonl", "faults.jsonl"]) appendFileSync(join(dir, file), '"half a li');
  await expect(logged("kn0wn-secret")).rejects.toThrow(SyntaxError);
  expect(() => faultsIn(dir)).toThrow(SyntaxError);
});

test("what has the shape of a token is found, whoever made it", async () => {
  const { leaks } = await logged(jwt("nobody"), `scion_pat_${"z".repeat(40)}`, "scion_pat_abcd…", "eyJ.eyJ.x");
  expect(leaks).toHaveLength(2);
});

test("whatever writes a log is searched: parts, processes, commands, and files that they leave", async () => {
  const secret = "wh4tever-wr1tes";
  noteSecrets(secret);
  const script = (how: string) => ["-e", `${how}(${JSON.stringify(`a line with ${secret}`)})`];
  testLog("parts").trace({ at: secret }, "a part of one");
  const replica = recordLog("replica");
  if (replica) createLog({ level: "trace", destination: replica }).trace({ at: secret }, "in this process");
  await replica?.end();
  for (const [how, only] of [
    ["console.log", undefined],
    ["console.error", "stderr"],
  ] as const) {
    const child = spawn(process.execPath, script(how), { stdio: ["ignore", "pipe", "pipe"] });
    recordOutput(child, how, only);
    await once(child, "close");
  }
  await runCommand(process.execPath, script("console.error"), { PATH: process.env.PATH });
  await expect(runCommand(process.execPath, script("throw Error"), { PATH: process.env.PATH })).rejects.toThrow();
  heard([])(`a line with ${secret}`);
  const state = mkdtempSync(join(tmpdir(), "rootstock-state-"));
  writeFileSync(join(state, "host.log"), `a line with ${secret}`);
  writeFileSync(join(state, "state.json"), `kept on purpose: ${secret}`);
  recordFiles(state);
  rmSync(state, { recursive: true });
  // The last lines of a child are written when it has closed.
  await eventually(async () => new Set((await searchRun(dir)).leaks.map((leak) => leak.file)).size === 6);
  const files = (await searchRun(dir)).leaks.map(({ file }) => file.replace(/^\d+-|(-\d+)?\.log$/g, ""));
  expect([...new Set(files)].sort()).toEqual(
    ["parts", "replica", "console_log", "console_error", "commands", "file-host_log"].sort(),
  );
});

test("what is no secret is left in peace, and one that is too short to be told from it fails the test that has it", async () => {
  noteSecrets(undefined, "", null, "WDJB-MJHT");
  noteSecretsIn('{"code":"idempotency_key_reused","name":"a name that is long enough","nextCursor":"xyz"}');
  noteSecretsGiven({ resolvedEnv: { SCION_AGENT_SLUG: "a1", PATH: "/bin" } });
  noteSecretsSent({ "x-other": "rubbish of some length" }, { env: { A: "1" } });
  expect(
    await logged("short idempotency_key_reused", "a name that is long enough", "xWDJB-MJHTx WDJB-MJHT-K"),
  ).toMatchObject({ secrets: 1, leaks: [] });
  for (const note of [
    () => noteSecrets("short"),
    () => noteSecretsTaken({ env: { A: "1" } }),
    () => noteSecretsGiven({ deep: [{ env: { A: "1" } }] }),
    () => noteSecretsIn({ token: "t" }),
    () => noteSecretsOfEnvironment({ SCION_DEV_TOKEN: "t" }),
  ])
    expect(note).toThrow("cannot be searched for");
});
