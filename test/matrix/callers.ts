import { AGENT_TOKEN_HEADER, AgentTokens, REPLICA_TOKEN_HEADER, ReplicaTokens, SigningKeys } from "@rootstock/hub";
import { signatureHeaders } from "@rootstock/protocol";
import { type Clock, systemClock, systemRandom } from "@rootstock/service";
import { api, foreignUserToken, type SimulatedCredentials, TEST_SECRET, TEST_TOKEN } from "@rootstock/testkit";
import { type AgentName, type Person, SCRAPE_TOKEN, type World } from "./world.ts";

/** A request as its signature covers it. */
export interface Sent {
  readonly method: string;
  /** Without query. */
  readonly path: string;
  readonly query: string;
  readonly body: Uint8Array;
}

/** A kind of principal: one column of the table, or one of several in the same column. */
export interface Caller {
  /** The column. */
  readonly code: string;
  /** Which of those in a column that several share. */
  readonly variant?: string;
  readonly about: string;
  readonly headers: (sent: Sent) => Fixed | Promise<Fixed>;
}

type Fixed = Readonly<Record<string, string>>;

const bearer = (token: string): Fixed => ({ authorization: `Bearer ${token}` });
const caller = (code: string, about: string, headers: Fixed, variant?: string): Caller => ({
  code,
  about,
  headers: () => headers,
  ...(variant && { variant }),
});

const EVERY_SCOPE = ["project:read", "agent:create", "agent:read", "agent:list", "agent:start", "agent:stop"].concat([
  "agent:delete",
  "agent:message",
  "agent:attach",
  "agent:dispatch",
]);
const USUAL = ["agent:status:update", "agent:token:refresh", "project:agent:notify"];
const SCOPED = [...USUAL, "project:agent:create", "project:agent:lifecycle"];

/** Everybody who may come, in the order of the table's columns. */
export const makeCallers = async (world: World): Promise<readonly Caller[]> => [
  caller("no", "no credential", {}),
  ...(await people(world)),
  ...browsers(world),
  ...(await programs(world)),
  ...(await agents(world)),
  ...runtimeBrokers(world),
  ...others(world),
  ...(await bad(world)),
];

const claimsOf = ({ id, email }: Person) => ({ sub: id, uid: id, email, type: "access", client: "web" });

const people = async ({ people: p }: World): Promise<readonly Caller[]> => [
  caller("sus", "suspended (was an admin)", bearer(p.sue.accessToken)),
  caller("vie", "viewer, no member of the project", bearer(p.vic.accessToken)),
  caller("out", "member of another project, its owner", bearer(p.otto.accessToken)),
  caller("reg", "registered the runtime broker; no member of the project", bearer(p.reg.accessToken)),
  caller("age", "started and owns the agent", bearer(p.ava.accessToken)),
  caller("vim", "viewer, in the members' group of the project", bearer(p.val.accessToken)),
  caller("mem", "member of the project", bearer(p.mel.accessToken)),
  caller("adm", "admin of the project (of its members' group)", bearer(p.ada.accessToken)),
  caller("own", "owner of the project; what is one's own is theirs", bearer(p.olga.accessToken)),
  caller("hub", "admin of the hub", bearer(p.hugo.accessToken)),
  caller("dev", "the development token", bearer(TEST_TOKEN)),
  caller("cli", "owner of the project, with a token of the CLI", {
    ...bearer(await foreignUserToken({ ...claimsOf(p.olga), role: "member", type: "cli", client: "cli" })),
  }),
  caller("say", "owner of the project, whose (bridge's) token says admin", {
    ...bearer(await foreignUserToken({ ...claimsOf(p.olga), role: "admin", client: "api" })),
  }),
];

/** The caller whose browser is used by a page that is not the hub's. */
export const CROSS_SITE = "bx";

/** People whose browser is signed in. What a page of another site reads it is not shown; what it sends is refused. */
const browsers = ({ people: p, replica }: World): readonly Caller[] => {
  const own = ({ cookie }: Person): Fixed => ({ cookie, origin: replica.url, "sec-fetch-site": "same-origin" });
  const foreign = { cookie: p.hugo.cookie, origin: "https://evil.example", "sec-fetch-site": "cross-site" };
  return [
    caller("bs", "suspended (was an admin), in a browser", own(p.sue)),
    caller("bm", "member of the project, in a browser", own(p.mel)),
    caller("bh", "admin of the hub, in a browser", own(p.hugo)),
    caller(CROSS_SITE, "page of another site, in the browser of an admin of the hub", foreign),
  ];
};

/** Access tokens. */
const programs = async ({ replica, people: p, projectId, secondProjectId }: World): Promise<readonly Caller[]> => {
  const token = async (owner: Person, project: string, scopes: readonly string[]): Promise<Fixed> => {
    const body = { name: "program", projectId: project, scopes };
    const made = await api(replica, "POST", "/api/v1/auth/tokens", body, { token: owner.accessToken });
    return bearer(made.text("token"));
  };
  const one = async (scope: string): Promise<Caller> =>
    caller(
      "pat",
      "access tokens of the project's owner for the project, one per scope",
      await token(p.olga, projectId, [scope]),
      scope,
    );
  return [
    caller("pt2", "access token with all scopes, for another project of the owner", {
      ...(await token(p.olga, secondProjectId, EVERY_SCOPE)),
    }),
    caller("ptA", "access token of a hub admin with all scopes, for the project", {
      ...(await token(p.hugo, projectId, EVERY_SCOPE)),
    }),
    ...(await Promise.all(EVERY_SCOPE.map(one))),
  ];
};

const agentToken = async (
  { agents: all }: World,
  name: AgentName,
  scopes: readonly string[],
  { runId = all[name].runId, clock = systemClock }: { readonly runId?: string; readonly clock?: Clock } = {},
): Promise<string> => {
  const tokens = new AgentTokens([TEST_SECRET], { clock, random: systemRandom });
  const { id: agentId, projectId } = all[name];
  return (await tokens.issue({ agentId, projectId, scopes, ancestry: [], tokenVersion: 1, runId })).token;
};

const agents = async (world: World): Promise<readonly Caller[]> => {
  const agent = async (code: string, about: string, name: AgentName, scopes = USUAL, runId?: string) =>
    caller(code, about, {
      [AGENT_TOKEN_HEADER]: await agentToken(world, name, scopes, runId === undefined ? {} : { runId }),
    });
  return [
    await agent("a=", "the agent itself", "target"),
    await agent("ao", "the agent itself, from a container run that is over", "target", USUAL, systemRandom.uuid()),
    await agent("a-", "agent of the same project", "sibling"),
    await agent("a+", "agent of the same project with the scopes to create and to manage agents", "scoped", SCOPED),
    await agent("a^", "the agent that started the agent", "parent"),
    await agent("ax", "agent of another project, with all scopes", "foreign", SCOPED),
    await agent("ad", "deleted agent of the same project, with all scopes", "deleted", SCOPED),
  ];
};

const signed =
  (credentials: SimulatedCredentials, { secretKey = credentials.secretKey, clock = systemClock } = {}) =>
  (sent: Sent): Fixed =>
    signatureHeaders({
      ...sent,
      brokerId: credentials.brokerId,
      secret: Buffer.from(secretKey, "base64"),
      now: clock.now(),
      nonce: systemRandom.bytes(16),
    });

const runtimeBrokers = ({ runtimeBrokers: r }: World): readonly Caller[] => [
  { code: "r=", about: "the runtime broker itself, which runs the agent", headers: signed(r.runs) },
  { code: "r+", about: "another runtime broker that serves the project", headers: signed(r.serves) },
  { code: "rx", about: "a runtime broker that serves other projects", headers: signed(r.other) },
];

const replicaToken = (audience: string): Promise<string> =>
  new ReplicaTokens({
    secrets: [TEST_SECRET],
    signingKeys: new SigningKeys([TEST_SECRET]),
    instanceId: systemRandom.uuid(),
    clock: systemClock,
    olderReplicas: () => false,
  }).issue(audience);

const others = ({ replica }: World): readonly Caller[] => [
  {
    code: "rep",
    about: "another replica",
    // Such a token lives for half a minute, and a slow machine takes longer.
    headers: async () => ({ [REPLICA_TOKEN_HEADER]: await replicaToken(replica.hub.instanceId) }),
  },
  caller("scr", "metrics collector", bearer(SCRAPE_TOKEN)),
];

/** What proves nothing. All of it must be refused alike. */
const bad = async (world: World): Promise<readonly Caller[]> => {
  const { people: p, runtimeBrokers: r, replica } = world;
  const owner = { ...claimsOf(p.olga), role: "member" };
  const now = Math.floor(systemClock.now() / 1000);
  const agent = await agentToken(world, "target", SCOPED);
  const accessToken = async (name: string): Promise<{ readonly id: string; readonly token: string }> => {
    const body = { name, projectId: world.projectId, scopes: EVERY_SCOPE };
    const made = await api(replica, "POST", "/api/v1/auth/tokens", body, { token: p.hugo.accessToken });
    return { id: made.text("accessToken.id"), token: made.text("token") };
  };
  const [good, revoked, over] = [await accessToken("good"), await accessToken("revoked"), await accessToken("over")];
  await api(replica, "DELETE", `/api/v1/auth/tokens/${revoked.id}`, undefined, { token: p.hugo.accessToken });
  await world.scene.database.query("update access_tokens set expires_at = now() - interval '1 minute' where id = $1", [
    over.id,
  ]);
  const kinds: readonly (readonly [variant: string, headers: Caller["headers"]])[] = [
    ["refresh token", fixed(bearer(p.olga.refreshToken))],
    ["expired", fixed(bearer(await foreignUserToken({ ...owner, iat: now - 7200, nbf: now - 7200, exp: now - 3600 })))],
    ["tampered", fixed(bearer(tampered(p.hugo.accessToken)))],
    ["other secret", fixed(bearer(await foreignUserToken(owner, "another secret of at least 32 bytes")))],
    ["other audience", fixed(bearer(await foreignUserToken({ ...owner, aud: "scion-test-login" })))],
    ["no uid", fixed(bearer(await foreignUserToken({ ...owner, uid: undefined })))],
    ["no such user", fixed(bearer(await foreignUserToken({ ...owner, uid: systemRandom.uuid(), role: "admin" })))],
    ["unknown shape", fixed(bearer("whatever"))],
    ["wrong development token", fixed(bearer(`scion_dev_${"cd".repeat(32)}`))],
    ["unknown access token", fixed(bearer(tampered(good.token)))],
    ["revoked access token", fixed(bearer(revoked.token))],
    ["expired access token", fixed(bearer(over.token))],
    ["tampered cookie", fixed({ cookie: tampered(p.hugo.cookie), origin: replica.url })],
    ["tampered agent token", fixed({ [AGENT_TOKEN_HEADER]: tampered(agent) })],
    [
      "expired agent token",
      fixed({ [AGENT_TOKEN_HEADER]: await agentToken(world, "target", SCOPED, { clock: yesterday }) }),
    ],
    ["a person's token as an agent's", fixed({ [AGENT_TOKEN_HEADER]: p.hugo.accessToken })],
    ["wrong signature", signed(r.runs, { secretKey: r.other.secretKey })],
    ["signature of yesterday", signed(r.runs, { clock: yesterday })],
    ["signature of an unknown runtime broker", signed({ ...r.runs, brokerId: systemRandom.uuid() })],
    ["for another replica", fixed({ [REPLICA_TOKEN_HEADER]: await replicaToken(systemRandom.uuid()) })],
    ["a person's token as a replica's", fixed({ [REPLICA_TOKEN_HEADER]: p.hugo.accessToken })],
  ];
  return kinds.map(([variant, headers]) => ({
    code: "bad",
    variant,
    about: "what proves nothing: expired, tampered, for another audience, …",
    headers,
  }));
};

/** As it was a day ago. */
const yesterday: Clock = { ...systemClock, now: () => systemClock.now() - 86_400_000 };

const fixed = (headers: Fixed) => (): Fixed => headers;

/** With another character in the middle of its last part. */
const tampered = (token: string): string => {
  const at = token.length - 10;
  return `${token.slice(0, at)}${token[at] === "A" ? "B" : "A"}${token.slice(at + 1)}`;
};
