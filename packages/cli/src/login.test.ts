import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { heard } from "@rootstock/testkit";
import { EXIT } from "./exitCodes.ts";
import { loginsPath } from "./logins.ts";
import { run } from "./run.ts";

interface Call {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly program: string | undefined;
  readonly body: unknown;
}

let root: string;
let server: Server;
let calls: Call[];
/** What the hub says to each question in turn; the last one again and again. */
let polls: (readonly [status: number, body: unknown])[];
let env: Record<string, string>;

const TOKENS = {
  accessToken: "access",
  refreshToken: "refresh",
  expiresIn: 2_592_000,
  user: { id: "1", email: "ann@example.org", displayName: "Ann", role: "member" },
};
const DEVICE = {
  deviceCode: "device",
  userCode: "WDJB-MJHT",
  verificationUrl: "http://hub/device",
  verificationUrlComplete: "http://hub/device?user_code=WDJB-MJHT",
  expiresIn: 600,
  interval: 0.01,
};

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "rootstock-login-"));
  calls = [];
  polls = [[200, TOKENS]];
  server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const { authorization, "user-agent": program } = request.headers;
    calls.push({ path: request.url ?? "", authorization, program, body: text ? JSON.parse(text) : undefined });
    const [status, body] = answer(request.url ?? "");
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  env = { ROOTSTOCK_HUB_URL: `http://127.0.0.1:${port}`, ROOTSTOCK_DATA: join(root, "none"), XDG_CONFIG_HOME: root };
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(root, { recursive: true, force: true });
});

const answer = (path: string): readonly [number, unknown] => {
  if (path === "/api/v1/auth/cli/device") return [200, DEVICE];
  if (path === "/api/v1/auth/cli/device/token")
    return (polls.length > 1 ? polls.shift() : polls[0]) ?? [404, undefined];
  if (path === "/api/v1/auth/logout") return [200, { success: true }];
  if (path.startsWith("/api/v1/projects?")) return [200, { projects: [{ id: "p", name: "default", slug: "default" }] }];
  return [200, { agents: [] }];
};
const rootstock = async (...args: string[]) => {
  const [out, err]: [string[], string[]] = [[], []];
  const code = await run(args, env, { out: (line) => out.push(line), err: heard(err) });
  return { code, out: out.join("\n"), err: err.join("\n") };
};

test("login shows address and code, waits until it is allowed, and leaves tokens for the other commands", async () => {
  polls = [
    [202, { status: "authorization_pending" }],
    [200, TOKENS],
  ];
  const login = await rootstock("login");
  expect([login.code, login.err]).toEqual([EXIT.ok, ""]);
  for (const text of [DEVICE.verificationUrl, DEVICE.userCode, DEVICE.verificationUrlComplete, "ann@example.org"])
    expect(login.out).toContain(text);
  expect(login.out).not.toContain("access");
  expect(calls.map((c) => c.path)).toEqual([
    "/api/v1/auth/cli/device",
    "/api/v1/auth/cli/device/token",
    "/api/v1/auth/cli/device/token",
  ]);
  expect(calls[0]?.program).toMatch(/^rootstock on /);
  expect(statSync(loginsPath(env)).mode & 0o777).toBe(0o600);
  expect((await rootstock("agent", "list")).code).toBe(EXIT.ok);
  expect(calls.at(-1)?.authorization).toBe("Bearer access");
  env.SCION_DEV_TOKEN = "given";
  await rootstock("agent", "list");
  expect(calls.at(-1)?.authorization).toBe("Bearer given");
});

test("logout ends the login at the hub and forgets it here; of other hubs nothing is forgotten", async () => {
  await rootstock("login");
  const path = loginsPath(env);
  const { hubs } = JSON.parse(readFileSync(path, "utf8"));
  const other = { accessToken: "a", refreshToken: "r", expiresAt: 1 };
  writeFileSync(path, JSON.stringify({ hubs: { ...hubs, "https://other.example": other } }));
  expect((await rootstock("logout")).code).toBe(EXIT.ok);
  expect(calls.at(-1)).toMatchObject({ path: "/api/v1/auth/logout", body: { refreshToken: "refresh" } });
  expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ hubs: { "https://other.example": other } });
  expect(await rootstock("logout")).toMatchObject({ code: EXIT.failed, err: expect.stringContaining("not logged in") });
  expect(await rootstock("agent", "list")).toMatchObject({ err: expect.stringContaining("rootstock login") });
});

test("a login that is refused or over keeps nothing, and says so", async () => {
  polls = [[400, { error: { code: "oauth_error", message: "the login was refused" } }]];
  expect(await rootstock("login")).toMatchObject({ code: EXIT.failed, err: expect.stringContaining("was refused") });
  polls = [[410, { status: "expired_token" }]];
  expect(await rootstock("login")).toMatchObject({ code: EXIT.failed, err: expect.stringContaining("in time") });
  expect(() => statSync(loginsPath(env))).toThrow("ENOENT");
  expect(await rootstock("login", "--nonsense")).toMatchObject({ code: EXIT.usage });
});
