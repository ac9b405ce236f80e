import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { LoadBalancer, Upstreams } from "@rootstock/cli";
import { type Base, systemClock, systemRandom } from "@rootstock/service";
import {
  type Account,
  api,
  Browsers,
  FrontProxy,
  IdentityProvider,
  type InProcessReplica,
  type Person,
  Scene,
  SimulatedGithub,
  SimulatedOidc,
  TEST_TOKEN,
  testLog,
} from "@rootstock/testkit";

/**
 * A person at a browser (a Chromium where there is one), three replicas behind the load balancer of `rootstock start`, and
 * each request on another one.
 */

const base: Base = { clock: systemClock, random: systemRandom, log: testLog() };
const AUDIENCE = "/projects/1/global/backendServices/2";
const LIMIT_MS = 120_000;
let browsers: Browsers;
let scene: Scene;

beforeAll(async () => {
  browsers = await Browsers.start();
}, LIMIT_MS);
afterAll(() => browsers.stop());
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

interface Hub {
  readonly url: string;
  readonly replicas: readonly InProcessReplica[];
}

const hub = async (
  env: Readonly<Record<string, string>>,
  adds?: () => Promise<Readonly<Record<string, string>>>,
): Promise<Hub> => {
  const replicas = [await scene.replica(env), await scene.replica(env), await scene.replica(env)];
  const upstreams = new Upstreams({ base, upstreams: replicas.map(({ name, hub }) => ({ name, ...hub.address() })) });
  const balancer = new LoadBalancer({ host: "127.0.0.1", port: 0, upstreams, base });
  await upstreams.start();
  await balancer.start();
  const front = await FrontProxy.start({ target: balancer.address(), ...(adds && { adds }) });
  scene.onEnd(async () => {
    await front.stop();
    await balancer.stop();
    await upstreams.stop();
  });
  return { url: front.url, replicas };
};

const person = async (url: string): Promise<Person> => {
  const somebody = await browsers.person(url);
  scene.onEnd(() => somebody.close());
  return somebody;
};

/** How often each replica has shown the start page to somebody who is signed in. */
const homesShown = (replicas: readonly InProcessReplica[]): Promise<readonly number[]> =>
  Promise.all(
    replicas.map(async ({ hub: { metrics } }) => {
      const line = /^rootstock_http_request_seconds_count\{route="\/",method="GET",status="200"\} (\d+)$/m;
      return Number(line.exec(await metrics.text())?.[1] ?? 0);
    }),
  );

/** Looks at the start page until every replica has shown it. */
const homeEverywhere = async (somebody: Person, { replicas }: Hub, who: string): Promise<void> => {
  for (let i = 0; i < 20 && (await homesShown(replicas)).includes(0); i += 1) {
    await somebody.open("/");
    expect([somebody.place(), await somebody.text()]).toEqual(["/", expect.stringContaining(who)]);
  }
  expect(await homesShown(replicas)).not.toContain(0);
};

test(
  "somebody signs in at an OpenID Connect provider, is known at every replica, and signs out",
  async () => {
    const oidc = await SimulatedOidc.start();
    scene.onEnd(() => oidc.stop());
    oidc.asks = true;
    const all = await hub({ ...oidc.environment(), ROOTSTOCK_OIDC_NAME: "Example Inc." });
    const ann = await person(all.url);
    await ann.open("/");
    expect(ann.place()).toBe("/login");
    await ann.click("Continue with Example Inc.");
    await ann.click("No");
    expect([ann.place(), await ann.text()]).toEqual([
      "/login?error=access_denied",
      expect.stringContaining("cancelled at the provider"),
    ]);
    await ann.click("Continue with Example Inc.");
    await ann.click("Yes, it is me");
    expect(ann.place()).toBe("/");
    expect(await ann.scriptCookies()).toBe("");
    await homeEverywhere(ann, all, "ann@example.org");
    await ann.click("Sign out");
    expect([ann.place(), await ann.text()]).toEqual([
      "/login?signed_out=1",
      expect.stringContaining("You are signed out."),
    ]);
    for (let i = 0; i < 3; i += 1) {
      await ann.open("/");
      expect(ann.place()).toBe("/login");
    }
  },
  LIMIT_MS,
);

test(
  "weak point 3: somebody links another provider to their account, comes in by it, and unlinks it",
  async () => {
    const [oidc, github] = [await SimulatedOidc.start(), await SimulatedGithub.start()];
    scene.onEnd(() => oidc.stop());
    scene.onEnd(() => github.stop());
    github.asks = true;
    const all = await hub({ ...oidc.environment(), ...github.environment() });
    const ann = await person(all.url);
    await ann.open("/auth/login/oidc");
    await ann.click("Your sign-ins");
    expect([ann.place(), await ann.text()]).toEqual(["/account", expect.not.stringContaining("Unlink")]);
    await ann.click("Link GitHub");
    await ann.click("Yes, it is me");
    expect([ann.place(), await ann.text()]).toEqual(["/account?linked=1", expect.stringContaining("Unlink")]);
    const elsewhere = await person(all.url);
    await elsewhere.open("/auth/login/github");
    await elsewhere.click("Yes, it is me");
    expect([elsewhere.place(), await elsewhere.text()]).toEqual(["/", expect.stringContaining("ann@example.org")]);
    await ann.click("Unlink");
    expect(ann.place()).toBe("/account?unlinked=1");
    await homeEverywhere(ann, all, "ann@example.org");
  },
  LIMIT_MS,
);

test(
  "weak point 5: somebody with an invite signs in and is in",
  async () => {
    const oidc = await SimulatedOidc.start();
    scene.onEnd(() => oidc.stop());
    const all = await hub({ ...oidc.environment(), ROOTSTOCK_ACCESS: "invite_only" });
    const [replica] = all.replicas;
    if (!replica) throw new Error("no replica");
    const made = await api(replica, "POST", "/api/v1/admin/invites", { expiresIn: "1h", maxUses: 1 });
    const ann = await person(all.url);
    await ann.open("/auth/login/oidc");
    expect(await ann.text()).toContain("Your account may not sign in here.");
    await ann.open("/invite");
    await ann.fill("Invite code", made.text("code"));
    await ann.click("Go on");
    await ann.click("Continue with Single sign-on");
    expect(ann.place()).toBe("/");
    await homeEverywhere(ann, all, "ann@example.org");
  },
  LIMIT_MS,
);

test(
  "weak point 7: behind Identity-Aware Proxy somebody is known without any cookie of the hub",
  async () => {
    const iap = await IdentityProvider.start();
    scene.onEnd(() => iap.stop());
    const account: Account = { sub: "accounts.google.com:1", email: "accounts.google.com:ann@example.org" };
    const env = {
      ROOTSTOCK_IAP_AUDIENCE: AUDIENCE,
      ROOTSTOCK_IAP_ISSUER: iap.issuer,
      ROOTSTOCK_IAP_JWKS_URL: iap.jwksUrl,
    };
    const all = await hub(env, async () => ({ "x-goog-iap-jwt-assertion": await iap.sign(account, AUDIENCE) }));
    const ann = await person(all.url);
    await homeEverywhere(ann, all, "ann@example.org");
    await ann.click("Sign out");
    expect(ann.place()).toBe("/_gcp_iap/clear_login_cookie");
  },
  LIMIT_MS,
);

test(
  "weak point 8: on a hub for development somebody signs in with the development token",
  async () => {
    const all = await hub({});
    const somebody = await person(all.url);
    await somebody.open("/");
    expect(somebody.place()).toBe("/login");
    await somebody.fill("Development token", TEST_TOKEN);
    await somebody.click("Sign in for development");
    expect(somebody.place()).toBe("/");
    await homeEverywhere(somebody, all, "dev@localhost");
  },
  LIMIT_MS,
);
