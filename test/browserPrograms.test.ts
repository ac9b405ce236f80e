import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { api, Browsers, noteSecrets, type Person, type Replica, Scene, SimulatedOidc } from "@rootstock/testkit";

/** A person at a browser (a Chromium where there is one) lets programs in, and refuses them (spec/03 3.2, 3.3). */

const LIMIT_MS = 120_000;
let browsers: Browsers;
let scene: Scene;
let replica: Replica;
let ann: Person;

beforeAll(async () => {
  browsers = await Browsers.start();
}, LIMIT_MS);
afterAll(() => browsers.stop());
beforeEach(async () => {
  scene = await Scene.create();
  const oidc = await SimulatedOidc.start();
  scene.onEnd(() => oidc.stop());
  replica = await scene.replica({ ...oidc.environment(), ROOTSTOCK_OIDC_NAME: "Example Inc.", SCION_DEV_TOKEN: "" });
  ann = await browsers.person(replica.url);
  scene.onEnd(() => ann.close());
}, LIMIT_MS);
afterEach(() => scene.end());

const ask = (method: string, path: string, body?: unknown) =>
  api(replica, method, `/api/v1${path}`, body, { headers: { authorization: "", "user-agent": "scion-client/1.0" } });

/** The program's own listener, to which the browser is sent from a form of the hub. */
const listener = async () => {
  const got: URLSearchParams[] = [];
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://127.0.0.1");
    if (pathname === "/callback") got.push(searchParams);
    noteSecrets(searchParams.get("code") ?? undefined);
    response.writeHead(200, { "content-type": "text/html" }).end("<p>Authentication Successful</p>");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  scene.onEnd(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );
  return { callbackUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/callback`, got };
};

test.each([
  ["Allow", "code"],
  ["Deny", "error"],
])(
  "the CLI on this machine hears what the person has said: %s",
  async (button, parameter) => {
    const { callbackUrl, got } = await listener();
    const { url } = Object((await ask("POST", "/auth/cli/authorize", { callbackUrl, state: "st4te-of-it" })).json);
    await ann.open(String(url));
    await ann.click("Continue with Example Inc.");
    expect(await ann.text()).toContain("Sign the command line in?");
    await ann.click(button);
    expect(await ann.text()).toContain("Authentication Successful");
    expect([got.length, got[0]?.has(parameter), got[0]?.get("state")]).toEqual([1, true, "st4te-of-it"]);
  },
  LIMIT_MS,
);

test(
  "a machine without a browser is signed in by the code that the person types",
  async () => {
    const device = await ask("POST", "/auth/cli/device", {});
    noteSecrets(device.text("deviceCode"));
    await ann.open("/device");
    await ann.click("Continue with Example Inc.");
    await ann.fill("Code", "BBBB-BBBB");
    await ann.click("Go on");
    expect(await ann.text()).toContain("Nothing waits for this code.");
    await ann.fill("Code", device.text("userCode").toLowerCase());
    await ann.click("Go on");
    for (const shown of ["Sign this machine in?", "scion-client/1.0", "127.0.0.1", device.text("userCode")])
      expect(await ann.text()).toContain(shown);
    await ann.click("Allow");
    expect(await ann.text()).toContain("goes on by itself");
    const tokens = await ask("POST", "/auth/cli/device/token", { deviceCode: device.text("deviceCode") });
    expect([tokens.status, tokens.get("user.email")]).toEqual([200, "ann@example.org"]);
  },
  LIMIT_MS,
);
