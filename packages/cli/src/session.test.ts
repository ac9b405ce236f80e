import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { type ApiReply, api, heard, type Replica, runCommand, Scene, testLogin } from "@rootstock/testkit";
import { EXIT } from "./exitCodes.ts";
import { loginsPath, type StoredLogin, storedLogin } from "./logins.ts";
import { run } from "./run.ts";

/** What `rootstock login` has left, at a hub of two replicas. */

const BIN = fileURLToPath(new URL("../bin/rootstock.js", import.meta.url));
let scene: Scene;
let replica: Replica;
let other: Replica;
beforeAll(async () => {
  scene = await Scene.create();
  const env = { ROOTSTOCK_TEST_LOGIN: "1" };
  [replica, other] = [await scene.replica(env), await scene.replica(env)];
});
afterAll(() => scene.end());

let root: string;
let env: Record<string, string>;
let ann: ApiReply;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "rootstock-session-"));
  env = { ROOTSTOCK_HUB_URL: replica.url, ROOTSTOCK_DATA: join(root, "none"), XDG_CONFIG_HOME: root };
  ann = await testLogin(replica, { email: "ann@example.org" });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const keep = (login: Partial<StoredLogin>): void => {
  const [accessToken, refreshToken] = [ann.text("accessToken"), ann.text("refreshToken")];
  const kept = { accessToken, refreshToken, expiresAt: systemClock.now() + 900_000, ...login };
  mkdirSync(dirname(loginsPath(env)), { recursive: true });
  writeFileSync(loginsPath(env), JSON.stringify({ hubs: { [replica.url]: kept } }));
};
const kept = (): StoredLogin | undefined => storedLogin(env, replica.url);
const rootstock = async (...args: string[]) => {
  const [out, err]: [string[], string[]] = [[], []];
  const code = await run(args, env, { out: (line) => out.push(line), err: heard(err) });
  return { code, out: out.join("\n"), err: err.join("\n") };
};
/** It asks the hub, as the person whose login it is. */
const LIST = ["runtime-broker", "join-token", "--name", "of-the-session"];
/** How often the login has been renewed, from 1, as the hub counts it. */
const generation = async (): Promise<unknown> => {
  const [, payload = ""] = ann.text("refreshToken").split(".");
  const { sid } = JSON.parse(Buffer.from(payload, "base64url").toString("utf8"));
  return (await scene.database.query<{ generation: number }>("select generation from sign_ins where id = $1", [sid]))[0]
    ?.generation;
};

test("an access token that is over is exchanged, and what came of it kept for the other commands", async () => {
  keep({ expiresAt: systemClock.now() - 1 });
  expect(await rootstock(...LIST)).toMatchObject({ code: EXIT.ok });
  expect(kept()?.refreshToken).not.toBe(ann.text("refreshToken"));
  expect(kept()?.expiresAt).toBeGreaterThan(systemClock.now());
  const renewed = kept();
  expect((await rootstock(...LIST)).code).toBe(EXIT.ok);
  expect(kept()).toEqual(renewed);
});

test("half way through it is exchanged, too; a hub that cannot just then is no reason to fail", async () => {
  keep({ renewAt: systemClock.now() - 1 });
  expect((await rootstock(...LIST)).code).toBe(EXIT.ok);
  expect(await generation()).toBe(2);
  ann = await testLogin(replica, { email: "ann@example.org" });
  keep({ renewAt: systemClock.now() - 1, refreshToken: "damaged" });
  expect((await rootstock(...LIST)).code).toBe(EXIT.ok);
});

test("one that the hub does not take is exchanged as well: clocks differ", async () => {
  keep({ accessToken: "not.a.token" });
  expect((await rootstock(...LIST)).code).toBe(EXIT.ok);
  expect(await generation()).toBe(2);
});

test("of several processes at once one exchanges the token, and the others go on with what it has got", async () => {
  keep({ expiresAt: systemClock.now() - 1 });
  const processes = await Promise.all(
    [1, 2, 3].map(() => runCommand(process.execPath, [BIN, ...LIST], { ...env, PATH: process.env.PATH })),
  );
  for (const { stdout } of processes) expect(stdout).toContain("ROOTSTOCK_JOIN_TOKEN=");
  expect(await generation()).toBe(2);
  // Nobody took it for theft: at the other replica, too.
  const me = await api(other, "GET", "/api/v1/auth/me", undefined, { token: kept()?.accessToken ?? "" });
  expect(me.json).toMatchObject({ email: "ann@example.org" });
});

test("a login that is over says so, and what to do; nothing falls back to another one", async () => {
  const token = ann.text("accessToken");
  const away = await api(replica, "POST", "/api/v1/auth/sign-out-everywhere", {}, { token });
  expect(away.status).toBe(204);
  for (const login of [{}, { expiresAt: systemClock.now() - 1 }]) {
    keep(login);
    const over = await rootstock(...LIST);
    expect(over).toMatchObject({ code: EXIT.failed, out: "" });
    expect(over.err).toMatch(/^rootstock: your login at .* is over .*: log in again with "rootstock login"$/);
  }
});
