import { systemRandom } from "@rootstock/service";
import {
  api,
  type InProcessReplica,
  joinRuntimeBroker,
  Scene,
  type SimulatedCredentials,
  seed,
  TEST_TOKEN,
  testLogin,
} from "@rootstock/testkit";

/** One of everything, each with somebody whose it is. */
export interface World {
  readonly scene: Scene;
  readonly replica: InProcessReplica;
  readonly people: Readonly<Record<PersonName, Person>>;
  readonly runtimeBrokers: Readonly<Record<"runs" | "serves" | "other", SimulatedCredentials>>;
  readonly agents: Readonly<Record<AgentName, AgentRow>>;
  /** The project that every path names. */
  readonly projectId: string;
  /** Another one of the same owner. */
  readonly secondProjectId: string;
  /** Of somebody else. */
  readonly foreignProjectId: string;
  /** What every path names of its kind, by the path's parameter. */
  readonly params: Readonly<Record<string, string>>;
}

export interface Person {
  readonly id: string;
  readonly email: string;
  readonly accessToken: string;
  readonly refreshToken: string;
  /** What the person's browser sends once it is signed in. */
  readonly cookie: string;
}

export interface AgentRow {
  readonly id: string;
  readonly projectId: string;
  readonly runId: string;
}

const PEOPLE = {
  /** Owns the project, whatever is one's own, and the second project. */
  olga: "member",
  /** Has started and owns the agent that every path names. */
  ava: "member",
  /** Owns another project. */
  otto: "member",
  vic: "viewer",
  /** Is in the members' group of the project. */
  mel: "member",
  /** The same as an admin of that group. */
  ada: "member",
  /** The same as mel, but a viewer. */
  val: "viewer",
  /** Has registered the runtime broker that every path names. */
  reg: "member",
  hugo: "admin",
  /** Was an admin, and is suspended. */
  sue: "admin",
} as const;
export type PersonName = keyof typeof PEOPLE;

const AGENTS = ["target", "sibling", "scoped", "parent", "foreign", "deleted"] as const;
export type AgentName = (typeof AGENTS)[number];

export const SCRAPE_TOKEN = "metrics-collector-9f3c62a1d07be845";

export interface WorldOptions {
  /** Of its replica, besides. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the runtime broker that runs the agents is connected. True unless said otherwise. */
  readonly connected?: boolean;
}

/** Builds it all. */
export const makeWorld = async ({ env, connected = true }: WorldOptions = {}): Promise<World> => {
  const scene = await Scene.create();
  const { query } = scene.database;
  // Hundreds of bad credentials from one address.
  const replica = await scene.replica({
    ROOTSTOCK_TEST_LOGIN: "1",
    ROOTSTOCK_METRICS_TOKEN: SCRAPE_TOKEN,
    ROOTSTOCK_RATE_LIMITS: "off",
    ...env,
  });
  const signIn = async (name: PersonName): Promise<Person> => {
    const reply = await testLogin(replica, { email: `${name}@example.org`, role: PEOPLE[name] });
    return {
      id: reply.text("user.id"),
      email: reply.text("user.email"),
      accessToken: reply.text("accessToken"),
      refreshToken: reply.text("refreshToken"),
      cookie: reply.headers.get("set-cookie")?.split(";", 1)[0] ?? "",
    };
  };
  const names = Object.keys(PEOPLE) as PersonName[];
  const people = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await signIn(name)] as const)),
  ) as Record<PersonName, Person>;
  const project = async (owner: PersonName, name: string): Promise<string> =>
    (await api(replica, "POST", "/api/v1/projects", { name }, { token: people[owner].accessToken })).text("id");
  const projectId = await project("olga", "matrix");
  const secondProjectId = await project("olga", "second");
  const foreignProjectId = await project("otto", "foreign");

  const join = (name: string, token: string): Promise<SimulatedCredentials> =>
    joinRuntimeBroker({ hubUrl: replica.url, token, name });
  const runtimeBrokers = {
    runs: await join("runs", people.reg.accessToken),
    serves: await join("serves", TEST_TOKEN),
    other: await join("other", TEST_TOKEN),
  };
  for (const { brokerId } of [runtimeBrokers.runs, runtimeBrokers.serves])
    await query("insert into project_providers (project_id, runtime_broker_id) values ($1, $2)", [projectId, brokerId]);

  const agents = await makeAgents(scene, { people, projectId, foreignProjectId, runtimeBrokers });
  const params = await makeOwn(scene, replica, { people, projectId, agents, runtimeBrokers });
  await query(
    `insert into group_memberships (group_id, user_id, role)
       select g.id, m.user_id, m.role from groups g,
         (values ($2::uuid, 'member'), ($3::uuid, 'admin'), ($4::uuid, 'member')) as m (user_id, role)
        where g.project_id = $1 and g.group_type = 'explicit'`,
    [projectId, people.mel.id, people.ada.id, people.val.id],
  );
  // Connected, so that what is let in is answered at once: it knows none of these agents.
  if (connected) await scene.connect(replica, runtimeBrokers.runs);
  await query("update users set status = 'suspended' where id = $1", [people.sue.id]);
  return {
    scene,
    replica,
    people,
    runtimeBrokers,
    agents,
    projectId,
    secondProjectId,
    foreignProjectId,
    params: {
      userId: people.olga.id,
      projectId,
      agentId: agents.target.id,
      brokerId: runtimeBrokers.runs.brokerId,
      ...params,
    },
  };
};

type Parts = Pick<World, "people" | "projectId" | "runtimeBrokers">;

const makeAgents = async (
  scene: Scene,
  { people, projectId, foreignProjectId, runtimeBrokers }: Parts & Pick<World, "foreignProjectId">,
): Promise<Record<AgentName, AgentRow>> => {
  const ids = Object.fromEntries(AGENTS.map((name) => [name, systemRandom.uuid()])) as Record<AgentName, string>;
  const made = AGENTS.map(async (name) => {
    const foreign = name === "foreign";
    const owner = foreign ? people.otto.id : name === "target" ? people.ava.id : people.olga.id;
    const row = { id: ids[name], projectId: foreign ? foreignProjectId : projectId, runId: systemRandom.uuid() };
    await seed(scene.database).agent({
      id: row.id,
      project_id: row.projectId,
      slug: name,
      name,
      phase: "running",
      run_id: row.runId,
      runtime_broker_id: foreign ? runtimeBrokers.other.brokerId : runtimeBrokers.runs.brokerId,
      owner_id: owner,
      created_by: owner,
      ancestry: name === "target" ? [owner, ids.parent] : [owner],
      ready_at: new Date(0),
      running_since: new Date(0),
      ...(name === "deleted" && { deleted_at: new Date(0), phase: "stopped" }),
    });
    return [name, row] as const;
  });
  return Object.fromEntries(await Promise.all(made)) as Record<AgentName, AgentRow>;
};

/** What is Olga's own, a message to the agent, and an operation on it. Returns the ids by their paths' parameters. */
const makeOwn = async (
  scene: Scene,
  replica: InProcessReplica,
  { people, projectId, agents, runtimeBrokers }: Parts & Pick<World, "agents">,
): Promise<Readonly<Record<string, string>>> => {
  const rows = seed(scene.database);
  const { olga, ava } = people;
  const token = await api(
    replica,
    "POST",
    "/api/v1/auth/tokens",
    { name: "own", projectId, scopes: ["agent:read"] },
    { token: olga.accessToken },
  );
  const subscription = await api(
    replica,
    "POST",
    "/api/v1/notifications/subscriptions",
    { scope: "project", projectId, triggerActivities: ["completed"] },
    { token: olga.accessToken },
  );
  const invite = await api(replica, "POST", "/api/v1/admin/invites", { expiresIn: "24h", maxUses: 1 });
  await api(replica, "POST", "/api/v1/admin/allow-list", { email: "listed@example.org" });
  await api(replica, "POST", `/api/v1/projects/${projectId}/shared-dirs`, { name: "shared" });
  const identityId = systemRandom.uuid();
  await scene.database.query(
    `insert into user_identities (id, issuer, subject, user_id, email)
     values ($1, 'https://one.example', '1', $2, $3), (gen_random_uuid(), 'https://two.example', '1', $2, $3)`,
    [identityId, olga.id, olga.email],
  );
  const resetId = systemRandom.uuid();
  await scene.database.query("insert into auth_resets (id, finished_at) values ($1, now())", [resetId]);
  const messageId = await rows.message({
    project_id: projectId,
    agent_id: agents.target.id,
    sender_id: agents.target.id,
    recipient: "user:olga",
    recipient_id: olga.id,
  });
  const dispatchId = await rows.dispatch({
    runtime_broker_id: runtimeBrokers.runs.brokerId,
    agent_id: agents.target.id,
    project_id: projectId,
    created_by: ava.id,
    state: "done",
  });
  const group = await api(replica, "POST", "/api/v1/groups", { name: "matrix group" }, { token: olga.accessToken });
  const policy = await api(replica, "POST", "/api/v1/policies", {
    name: "matrix policy",
    scopeType: "project",
    scopeId: projectId,
    resourceType: "skill",
    actions: ["update"],
    effect: "allow",
  });
  const bound = { principalType: "user", principalId: olga.id };
  await api(replica, "POST", `/api/v1/policies/${policy.text("id")}/bindings`, bound);
  return {
    groupId: group.text("id"),
    memberType: "user",
    memberId: olga.id,
    policyId: policy.text("id"),
    ...bound,
    boundType: "user",
    boundId: olga.id,
    tokenId: token.text("accessToken.id"),
    subscriptionId: subscription.text("id"),
    identityId,
    inviteId: invite.text("invite.id"),
    inviteCode: invite.text("code"),
    email: "listed@example.org",
    name: "shared",
    resetId,
    messageId,
    dispatchId,
  };
};

/** Tables that move by themselves. */
const MOVING = [
  "change_log",
  "feed_meta",
  "hub_replicas",
  "idempotency_keys",
  "replica_names",
  "runtime_broker_heartbeats",
  "schema_version",
  "seen_nonces",
  "stream_frames",
  "sweeps",
  "trace_hops",
];
/** Columns that move by themselves. */
const TOUCHED = ["last_used", "last_seen", "last_login", "updated"];

/**
 * From now on every write of a row fails: as a lock that cannot be had, which a replica tells from its own faults. So the
 * thousands of requests of the matrix leave nothing behind for the next one, whoever they were let in as, and one that
 * is refused has not even tried to write.
 */
export const freeze = async ({ database: { query } }: Scene): Promise<void> => {
  await query(`create function frozen() returns trigger language plpgsql as $$ begin
    if tg_op = 'UPDATE' then
      if to_jsonb(old) - '{${TOUCHED}}'::text[] = to_jsonb(new) - '{${TOUCHED}}'::text[] then return new; end if;
    end if;
    raise exception 'frozen' using errcode = 'lock_not_available';
  end $$`);
  await query(`do $$ declare t text; begin
    for t in select tablename from pg_tables where schemaname = 'public'
      and not tablename = any('{${MOVING}}') loop
      execute format('create trigger aaa_frozen before insert or update or delete on %I for each row
        execute function frozen()', t);
    end loop; end $$`);
};
