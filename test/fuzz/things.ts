import { systemRandom } from "@rootstock/service";
import { type ApiReply, api, joinRuntimeBroker, seed, testLogin } from "@rootstock/testkit";
import type { World } from "../matrix/world.ts";
import type { Identity } from "./identities.ts";
import type { Machines } from "./machines.ts";

/** Values by the name of the parameter or field. */
export type Values = Readonly<Record<string, readonly string[]>>;

export interface Things {
  /** Has the agents that were running run again, since most of what is asked halts them. */
  readonly tend: () => Promise<void>;
  /** What there is. */
  readonly there: Values;
  /** What else there is, for what deletes: else all others would soon ask for what is gone. */
  readonly expendable: Values;
}

const MANY = 24;

/** Makes many of each thing, and tells of those that the world has. */
export const makeThings = async (world: World, identity: Identity, machines: Machines): Promise<Things> => {
  const { scene, replica, people, params, projectId, runtimeBrokers } = world;
  const { runs, serves, other } = runtimeBrokers;
  for (const [name, { projectId: at }] of Object.entries(world.agents))
    machines.runs(at === projectId ? runs.brokerId : other.brokerId, name, "running");
  const agent = agentMaker(world, identity, machines);
  const own = { token: people.olga.accessToken };
  const post = (path: string, body: object, as: object = own): Promise<ApiReply> =>
    api(replica, "POST", `/api/v1${path}`, body, as);
  const ids = (at: string, path: string, body: (n: number) => object, as?: object) =>
    many(async (n) => (await post(path, body(n), as)).text(at));
  // What is one's own, where the caller may have it; else it is the owner's.
  const self = (at: string, path: string, body: (n: number) => object) =>
    many(async (n) => {
      const reply = identity.token && (await post(path, body(n), { token: identity.token }));
      return (reply && reply.status < 300 ? reply : await post(path, body(n))).text(at);
    });
  const agentIds = await many((n) => agent(n, `agent-${n}`));
  const tokens = { projectId, scopes: ["agent:read"] };
  const watched = { scope: "agent", projectId, triggerActivities: ["completed"] };
  const policy = {
    scopeType: "project",
    scopeId: projectId,
    resourceType: "skill",
    actions: ["read"],
    effect: "allow",
  };
  const invited = { expiresIn: "24h", maxUses: 1 };
  const dirs = await many(async (n) => {
    await post(`/projects/${projectId}/shared-dirs`, { name: `dir-${n}` });
    return `dir-${n}`;
  });
  const listed = await many(async (n) => {
    await post("/admin/allow-list", { email: `listed-${n}@example.org` }, {});
    return `listed-${n}@example.org`;
  });
  const project = (name: string) => self("id", "/projects", (n) => ({ name: `${name} ${n}` }));
  const projectIds = [projectId, ...(await project("project"))];
  await serve(world, projectIds);
  // An agent that has deleted itself is nobody from then on.
  const agents = Object.values(world.agents).filter(({ id }) => id !== identity.agentId);
  const running = [...Object.values(world.agents).map(({ id }) => id), ...agentIds.filter((_, n) => n % 3 === 0)];
  const joined = (name: string) => joinRuntimeBroker({ hubUrl: replica.url, token: people.reg.accessToken, name });
  const others = Object.values(people).filter((p) => p.id !== identity.userId);
  return {
    tend: async () => {
      await scene.database.query(
        `update agents set phase = 'running'
          where id = any($1) and deleted_at is null and phase in ('stopped', 'suspended', 'error')`,
        [running],
      );
    },
    there: {
      ...Object.fromEntries(Object.entries(params).map(([name, value]) => [name, [value]])),
      projectId: projectIds,
      agentId: [...agentIds, ...agents.map(({ id }) => id), "agent-1", "agent-2"],
      memberId: others.map((p) => p.id),
      email: ["listed@example.org", ...Array.from({ length: MANY }, (_, n) => `fresh-${n}@example.org`)],
      topic: [`scion.project.${projectId}.agent.sibling.messages`],
      code: [params.inviteCode ?? ""],
      refreshToken: [people.otto.refreshToken, people.ava.refreshToken, people.ada.refreshToken],
      resourceId: [projectId],
      brokerId: [runs.brokerId, serves.brokerId, other.brokerId],
      userId: others.map((p) => p.id),
    },
    expendable: {
      agentId: await many((n) => agent(n, `expendable-${n}`)),
      projectId: await project("expendable"),
      brokerId: await many(async (n) => (await joined(`expendable-${n}`)).brokerId),
      userId: await many(async (n) =>
        (await testLogin(replica, { email: `expendable-${n}@example.org`, role: "member" })).text("user.id"),
      ),
      tokenId: await self("accessToken.id", "/auth/tokens", (n) => ({ name: `token ${n}`, ...tokens })),
      subscriptionId: await self("id", "/notifications/subscriptions", (n) => ({ ...watched, agentId: agentIds[n] })),
      groupId: await self("id", "/groups", (n) => ({ name: `group ${n}` })),
      policyId: await ids("id", "/policies", (n) => ({ name: `policy ${n}`, ...policy }), {}),
      inviteId: await ids("invite.id", "/admin/invites", () => invited, {}),
      name: dirs,
      email: listed,
    },
  };
};

/** Makes an agent of the project as a row, in one phase or another, mostly on a runtime broker; returns its id. */
const agentMaker = ({ scene, people, projectId, runtimeBrokers }: World, { userId }: Identity, machines: Machines) => {
  const rows = seed(scene.database);
  return (n: number, slug: string): Promise<string> => {
    const phase = n % 3 === 0 ? "running" : n % 3 === 1 ? "stopped" : "suspended";
    const machine = n % 8 === 4 ? null : n % 2 === 0 ? runtimeBrokers.runs : runtimeBrokers.serves;
    if (machine) machines.runs(machine.brokerId, slug, phase);
    // Every other one is the caller's own, if that is a person.
    const owner = (n % 2 === 0 && userId) || people.olga.id;
    return rows.agent({
      project_id: projectId,
      slug,
      name: slug,
      phase,
      runtime_broker_id: machine?.brokerId ?? null,
      owner_id: owner,
      created_by: owner,
      ancestry: [owner],
      run_id: systemRandom.uuid(),
      ready_at: new Date(0),
      running_since: new Date(0),
    });
  };
};

/** Has two runtime brokers serve the projects, one of them unless another is asked for. */
const serve = async ({ scene, runtimeBrokers }: World, projectIds: readonly string[]): Promise<void> => {
  const { runs, serves } = runtimeBrokers;
  await scene.database.query(
    `insert into project_providers (project_id, runtime_broker_id)
       select p, r from unnest($1::uuid[]) p, unnest($2::uuid[]) r on conflict do nothing`,
    [projectIds, [runs.brokerId, serves.brokerId]],
  );
  await scene.database.query("update projects set default_runtime_broker_id = $2 where id = any($1)", [
    projectIds,
    runs.brokerId,
  ]);
};

const many = async (make: (n: number) => Promise<string>): Promise<readonly string[]> => {
  const made: string[] = [];
  for (let n = 0; n < MANY; n += 1) made.push(await make(n));
  return made;
};
