import { AGENT_TOKEN_HEADER, REPLICA_TOKEN_HEADER, ReplicaTokens, type Route, SigningKeys } from "@rootstock/hub";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  ApiReply,
  api,
  type InProcessReplica,
  type Replica,
  Scene,
  type SimulatedRuntimeBroker,
  TEST_SECRET,
  TEST_TOKEN,
} from "@rootstock/testkit";

/** A hub with one of everything, and who may call what. */
export interface World {
  readonly scene: Scene;
  readonly replica: InProcessReplica;
  readonly routes: readonly Route[];
  readonly runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
  readonly projectId: string;
  readonly agentId: string;
  readonly agentToken: string;
  /** Of an agent in another project. */
  readonly strangerToken: string;
  /** Of an agent that was deleted. */
  readonly deletedToken: string;
}

export const makeWorld = async (given?: Scene): Promise<World> => {
  const scene = given ?? (await Scene.create());
  // What is tried here from one address is more than anybody is let.
  const replica = await scene.replica({ ROOTSTOCK_RATE_LIMITS: "off" });
  const runtimeBroker = await scene.runtimeBroker(replica, { name: "laptop" });
  const projectId = await scene.project(replica);
  const tokenOf = (slug: string): string => {
    const made = runtimeBroker.received.find((r) => Reflect.get(Object(r.json), "slug") === slug);
    return String(Reflect.get(Object(made?.json), "agentToken"));
  };
  const agentId = await scene.agent(replica, projectId, "a1");
  await scene.agent(replica, await scene.project(replica, "another"), "stranger");
  const deleted = await scene.agent(replica, projectId, "deleted");
  await api(replica, "DELETE", `/api/v1/agents/${deleted}`);
  return {
    scene,
    replica,
    routes: replica.hub.routes,
    runtimeBroker,
    projectId,
    agentId,
    agentToken: tokenOf("a1"),
    strangerToken: tokenOf("stranger"),
    deletedToken: tokenOf("deleted"),
  };
};

/** A value for each kind of path parameter. */
export type Ids = Readonly<Record<string, string>>;

/** The path with its parameters filled in; `other` stands for those that `ids` does not name. */
export const pathOf = (route: Pick<Route, "path">, ids: Ids, other: string): string =>
  route.path.replace(/:(\w+)/g, (_, name: string) => ids[name] ?? other).replace("*", "x");

export const parametersOf = (route: Pick<Route, "path">): readonly string[] =>
  [...route.path.matchAll(/:(\w+)/g)].map((m) => m[1] ?? "");

export interface Sent {
  readonly body?: unknown;
  readonly raw?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly path?: string;
}

/** A stream that is granted never ends by itself. */
export const isStream = (route: Route): boolean => route.method === "GET" && /\/(events|stream)$/.test(route.path);

/** Calls a route as somebody who passes its access rule. */
export const callAllowed = async (
  world: World,
  route: Route,
  path: string,
  sent: Sent = {},
  replica: Replica = world.replica,
): Promise<ApiReply> => {
  const raw = sent.raw ?? (sent.body === undefined ? undefined : JSON.stringify(sent.body));
  const credentials = await credentialsFor(world, route, path, raw);
  if (isStream(route)) return opened(replica, path, { ...credentials, ...sent.headers });
  return api(replica, route.method, path, undefined, {
    headers: { ...credentials, ...sent.headers },
    redirect: "manual",
    ...(raw !== undefined && route.method !== "GET" && { raw }),
  });
};

/** The beginning of a stream, or the refusal. */
const opened = async (replica: Replica, path: string, headers: Readonly<Record<string, string>>): Promise<ApiReply> => {
  const response = await fetch(`${replica.url}${path}`, { headers });
  if (response.status >= 400) return new ApiReply(response.status, response.headers, await response.text());
  await response.body?.cancel();
  return new ApiReply(response.status, response.headers, "");
};

export const credentialsFor = async (
  world: World,
  route: Route,
  path: string,
  raw: string | Uint8Array | undefined,
): Promise<Readonly<Record<string, string>>> => {
  const { access } = route;
  const user = { kind: "user", id: "", email: "", displayName: "", role: "admin" } as const;
  if (access.allows(user)) return { authorization: `Bearer ${TEST_TOKEN}` };
  if (access.allows({ kind: "agent", id: "", projectId: "", scopes: [], ancestry: [] }))
    return { authorization: "", [AGENT_TOKEN_HEADER]: world.agentToken };
  if (access.allows({ kind: "runtimeBroker", id: "" })) {
    const [bare = "", query = ""] = path.split("?");
    const body = route.method === "GET" || raw === undefined ? Buffer.alloc(0) : Buffer.from(raw);
    return { authorization: "", ...world.runtimeBroker.sign(route.method, signable(bare), query, body) };
  }
  const tokens = new ReplicaTokens({
    secrets: [TEST_SECRET],
    signingKeys: new SigningKeys([TEST_SECRET]),
    instanceId: systemRandom.uuid(),
    clock: systemClock,
    olderReplicas: () => false,
  });
  return { authorization: "", [REPLICA_TOKEN_HEADER]: await tokens.issue(world.replica.hub.instanceId) };
};

/** The signature covers the decoded path; one that cannot be decoded cannot be signed either. */
const signable = (path: string): string => {
  try {
    decodeURIComponent(path);
    return path;
  } catch {
    return "/";
  }
};

/** An id that nothing has. */
export const nobody = systemRandom.uuid();

/** The path of a route to something that is not there. */
export const nothing = (route: Route): string => pathOf(route, {}, nobody);

export const name = (route: Route, path: string): string => `${route.method} ${path}`;

/** What must hold of every refusal: the envelope with a code, and no failure that nobody planned. */
export const problemsOf = (what: string, reply: ApiReply, expected?: (reply: ApiReply) => boolean): string[] => {
  const told = `${what} -> ${reply.status} ${reply.body.slice(0, 300)}`;
  if (reply.status >= 500 && ![501, 502, 503].includes(reply.status)) return [`failed: ${told}`];
  if (reply.status >= 400 && !isPlain(what) && !isPage(reply) && typeof reply.get("error.code") !== "string")
    return [`no code: ${told}`];
  if (reply.get("error.code") === "validation_error" && typeof reply.get("error.details.field") !== "string")
    return [`no field: ${told}`];
  return expected && !expected(reply) ? [`unexpected: ${told}`] : [];
};

/** The clients expect plain text of the event stream's own refusals (spec/02 7.3) and of the test login's (spec/03 3.5). */
const isPlain = (what: string): boolean => / (\/events|\/api\/v1\/auth\/test-login)/.test(what);

/** What people see in a browser says it in words. */
const isPage = ({ headers }: ApiReply): boolean => headers.get("content-type")?.startsWith("text/html") === true;

/** Does `work` for each item, a few at a time, and gathers what it found. */
export const forEach = async <T>(items: readonly T[], work: (item: T) => Promise<string[]>): Promise<string[]> => {
  const found: string[] = [];
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) found.push(...(await work(item)));
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  // One fault shows at many routes: the first few tell it.
  return found.slice(0, 10);
};

/** How many rows each table has, those that live by themselves or tell of refusals left out. */
export const rowCounts = async (scene: Scene): Promise<Readonly<Record<string, number>>> => {
  const tables = await scene.database.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public' order by 1",
  );
  // A device may ask for a login with an empty body: that is a row.
  const moving = [
    "seen_nonces",
    "device_logins",
    "sweeps",
    "hub_replicas",
    "runtime_broker_heartbeats",
    "audit_log",
    "rate_buckets",
  ];
  const names = tables.map((t) => t.name).filter((name) => !moving.includes(name));
  const [row = {}] = await scene.database.query<Record<string, string>>(
    `select ${names.map((name) => `(select count(*) from ${name}) as ${name}`).join(", ")}`,
  );
  return Object.fromEntries(Object.entries(row).map(([name, count]) => [name, Number(count)]));
};
