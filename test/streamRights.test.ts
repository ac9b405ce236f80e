import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER, AgentTokens } from "@rootstock/hub";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  api,
  type EventStream,
  eventually,
  foreignUserToken,
  type InProcessReplica,
  LogClient,
  openEventStream,
  Scene,
  SimulatedTerminals,
  seed,
  TEST_SECRET,
  TerminalClient,
  testLogin,
} from "@rootstock/testkit";
import { WebSocket } from "ws";

/** Streams follow rights, at every replica: they end with what opened them, and tell what may be read now. */

const SOON_MS = 2_000;
let scene: Scene;
let a: InProcessReplica;
let b: InProcessReplica;
let project: string;
let people = 0;
let agents = 0;

beforeAll(async () => {
  scene = await Scene.create();
  const env = { ROOTSTOCK_TEST_LOGIN: "1" };
  [a, b] = [await scene.replica(env), await scene.replica(env)];
  project = await scene.project(a);
});
afterAll(() => scene.end());

type Proof = Readonly<Record<string, string>>;

/** Streams of one client at both replicas. */
const listening = (headers: Proof): Promise<EventStream[]> =>
  Promise.all([a, b].map((replica) => openEventStream(replica, { patterns: [">"], headers })));

const isOver = (work: Promise<unknown>): (() => boolean) => {
  let over = false;
  void Promise.allSettled([work]).then(() => {
    over = true;
  });
  return () => over;
};

const person = async (role: "member" | "admin" = "member") => {
  people += 1;
  const reply = await testLogin(a, { email: `person-${people}@example.org`, role });
  const token = reply.text("accessToken");
  return {
    id: reply.text("user.id"),
    token,
    refreshToken: reply.text("refreshToken"),
    cookie: { cookie: reply.headers.get("set-cookie")?.split(";", 1)[0] ?? "" },
    bearer: { authorization: `Bearer ${token}` },
    call: (method: string, path: string, body?: unknown) => api(a, method, path, body, { token }),
  };
};

/** The token of an agent, which ends so many seconds from now. */
const agentToken = async (agentId: string, seconds = 3_600, ancestry: readonly string[] = []): Promise<string> => {
  const clock = { ...systemClock, now: () => systemClock.now() - (10 * 3_600 - seconds) * 1000 };
  const tokens = new AgentTokens([TEST_SECRET], { clock, random: systemRandom });
  const { token } = await tokens.issue({ agentId, projectId: project, scopes: [], ancestry, tokenVersion: 1 });
  return token;
};
const asAgent = async (agentId: string, seconds?: number): Promise<Proof> => ({
  [AGENT_TOKEN_HEADER]: await agentToken(agentId, seconds),
});

const newAgent = (): Promise<string> => {
  agents += 1;
  return seed(scene.database).agent({ project_id: project, slug: `agent-${agents}` });
};

type Held = readonly [headers: Proof, end: () => Promise<unknown>];
const agentThat = async (end: (agentId: string) => Promise<unknown>): Promise<Held> => {
  const agent = await newAgent();
  return [await asAgent(agent), () => end(agent)];
};
const personWith = async (
  proof: "bearer" | "cookie",
  end: (who: Awaited<ReturnType<typeof person>>) => Promise<unknown>,
): Promise<Held> => {
  const who = await person();
  return [who[proof], () => end(who)];
};
const query = (sql: string, values: readonly unknown[]) => scene.database.query(sql, [...values]);
const refresh = (refreshToken: string) => api(a, "POST", "/api/v1/auth/refresh", { refreshToken });

const ENDS: readonly (readonly [what: string, hold: () => Promise<Held>])[] = [
  ["an agent that is deleted", () => agentThat((id) => api(a, "DELETE", `/api/v1/agents/${id}?force=true`))],
  [
    "an agent whose row has gone, with its project for one",
    () => agentThat((id) => query("delete from agents where id = $1", [id])),
  ],
  [
    "an agent whose tokens were reset",
    () => agentThat((id) => query("update agents set token_version = 2 where id = $1", [id])),
  ],
  ["a person's token, signed out", () => personWith("bearer", (p) => p.call("POST", "/api/v1/auth/logout", {}))],
  [
    "a browser, signed out",
    () =>
      personWith("cookie", ({ cookie }) =>
        fetch(`${a.url}/api/v1/auth/logout`, { method: "POST", headers: { ...cookie, origin: a.url } }),
      ),
  ],
  [
    "a person's token, after signing out everywhere",
    () => personWith("bearer", (p) => p.call("POST", "/api/v1/auth/sign-out-everywhere")),
  ],
  [
    "a browser, after signing out everywhere",
    () => personWith("cookie", (p) => p.call("POST", "/api/v1/auth/sign-out-everywhere")),
  ],
  [
    "a person's token, whose refresh token came back from a thief",
    () =>
      personWith("bearer", async (p) => {
        const second = (await refresh(p.refreshToken)).text("refreshToken");
        await refresh(second);
        expect((await refresh(p.refreshToken)).status).toBe(401);
      }),
  ],
  [
    "somebody who is suspended",
    () => personWith("bearer", (p) => query("update users set status = 'suspended' where id = $1", [p.id])),
  ],
  [
    "somebody whose account is deleted",
    () => personWith("cookie", (p) => query("delete from users where id = $1", [p.id])),
  ],
];

test.each(ENDS)("event streams of %s end at every replica within two seconds", async (_, hold) => {
  const bystander = await person();
  const others = await listening(bystander.bearer);
  const disturbed = others.map(({ ended }) => isOver(ended));
  const [headers, end] = await hold();
  const streams = await listening(headers);
  const over = streams.map(({ ended }) => isOver(ended));
  await end();
  await eventually(() => over.every((is) => is()), SOON_MS);
  expect(disturbed.map((is) => is())).toEqual([false, false]);
  for (const stream of others) await stream.close();
});

test("event streams end when what they were opened with ends by itself, and not before", async () => {
  const who = await person();
  const now = Math.floor(systemClock.now() / 1000);
  const exp = now + 2;
  const claims = { sub: who.id, uid: who.id, type: "access", client: "api", role: "member", exp };
  const user = { authorization: `Bearer ${await foreignUserToken(claims)}` };
  const agent = await asAgent(await newAgent(), 2);
  const streams = [...(await listening(user)), ...(await listening(agent))];
  const at = await Promise.all(streams.map(({ ended }) => ended.then(() => systemClock.now())));
  for (const time of at) {
    expect(time).toBeGreaterThanOrEqual(exp * 1000 - 50);
    expect(time).toBeLessThan((exp + 1) * 1000 + SOON_MS);
  }
});

test("a terminal and a followed log end with the token that they were opened with, at every replica", async () => {
  const runtimeBroker = await scene.runtimeBroker(a);
  new SimulatedTerminals(runtimeBroker);
  const agent = await scene.agent(a, project, "looked-at", runtimeBroker.id);
  const admin = await person("admin");
  const made = async () => {
    const body = { name: "t", projectId: project, scopes: ["agent:attach", "agent:read"] };
    const reply = await admin.call("POST", "/api/v1/auth/tokens", body);
    return { token: reply.text("token"), path: `/api/v1/auth/tokens/${reply.text("accessToken.id")}` };
  };
  const open = async (token: string) => {
    const followed = await LogClient.follow(a, agent, { token });
    if (!(followed instanceof LogClient)) throw new Error(followed.body);
    const attached = [
      await TerminalClient.attach(a, agent, { token }),
      await TerminalClient.attach(b, agent, { token }),
    ];
    return async () => [
      ...(await Promise.all(attached.map(async ({ closed }) => (await closed).code))),
      (await followed.ended) && followed.others.map(({ data }) => data.code),
    ];
  };
  for (const [method, suffix] of [
    ["POST", "/revoke"],
    ["DELETE", ""],
  ] as const) {
    const { token, path } = await made();
    const codes = (await open(token))();
    const over = isOver(codes);
    expect((await admin.call(method, path + suffix)).status).toBe(204);
    await eventually(over, SOON_MS);
    expect(await codes).toEqual([4401, 4401, [4401]]);
  }
  const exp = Math.floor(systemClock.now() / 1000) + 2;
  const claims = { sub: admin.id, uid: admin.id, type: "access", client: "api", role: "admin", exp };
  expect(await (await open(await foreignUserToken(claims)))()).toEqual([4401, 4401, [4401]]);
  expect(systemClock.now()).toBeGreaterThanOrEqual(exp * 1000);
  const codes = (await open(admin.token))();
  const over = isOver(codes);
  await api(b, "DELETE", `/api/v1/agents/${agent}`);
  await eventually(over, SOON_MS);
  expect((await codes).flat().every((code) => code === 4404 || code === 1000 || code === 4503)).toBe(true);
});

test("what an agent may do on somebody's behalf ends with their suspension, at every replica, as soon as it is told", async () => {
  const who = await person();
  const other = await newAgent();
  const headers = { [AGENT_TOKEN_HEADER]: await agentToken(await newAgent(), 3_600, [who.id]) };
  const made = await api(a, "POST", "/api/v1/policies", {
    name: "on their behalf",
    scopeType: "hub",
    resourceType: "agent",
    actions: ["update"],
    effect: "allow",
    conditions: { delegatedFrom: { principalType: "user", principalId: who.id } },
  });
  expect(made.status).toBe(201);
  const change = async (replica: InProcessReplica) =>
    (await api(replica, "PATCH", `/api/v1/agents/${other}`, { taskSummary: "theirs" }, { headers })).status;
  const changes = () => Promise.all([a, b].map(change));
  for (const [status, answers] of [
    ["active", [200, 200]],
    ["suspended", [403, 403]],
    ["active", [200, 200]],
  ] as const) {
    expect((await api(a, "PATCH", `/api/v1/users/${who.id}`, { status })).status).toBe(200);
    await eventually(async () => expect(await changes()).toEqual(answers), SOON_MS / 2);
  }
});

test("a terminal, a followed log and what event streams tell end with the time of the policy that they hang on", async () => {
  const runtimeBroker = await scene.runtimeBroker(a);
  new SimulatedTerminals(runtimeBroker);
  const agent = await scene.agent(a, project, "for-a-while", runtimeBroker.id);
  const who = await person();
  const policies: string[] = [];
  for (const resourceType of ["project", "agent"]) {
    const made = await api(a, "POST", "/api/v1/policies", {
      name: `a while ${resourceType}`,
      scopeType: "project",
      scopeId: project,
      resourceType,
      actions: ["*"],
      effect: "allow",
    });
    policies.push(`/api/v1/policies/${made.text("id")}`);
    const bound = { principalType: "user", principalId: who.id };
    expect((await api(a, "POST", `${policies.at(-1)}/bindings`, bound)).status).toBe(201);
  }
  const attach = (replica: InProcessReplica) => eventually(() => TerminalClient.attach(replica, agent, who));
  const terminals = await Promise.all([a, b].map(attach));
  const followed = await LogClient.follow(b, agent, who);
  if (!(followed instanceof LogClient)) throw new Error(followed.body);
  const over = [...terminals.map(({ closed }) => closed), followed.ended].map((end) => isOver(end));
  const streams = await listening(who.bearer);
  const heard = async (): Promise<boolean> => {
    const before = streams.map((stream) => subjectsOf(stream).length);
    await api(a, "PATCH", `/api/v1/projects/${project}`, { name: systemRandom.uuid() });
    await who.call("PATCH", `/api/v1/users/${who.id}`, { displayName: systemRandom.uuid() });
    const later = streams.map((stream, i) => () => subjectsOf(stream).slice(before[i]));
    await eventually(() => later.every((of) => of().includes(`user.${who.id}.changed`)));
    return later.some((of) => of().includes(`project.${project}.updated`));
  };
  await eventually(heard);
  expect(over.map((is) => is())).toEqual([false, false, false]);
  const until = systemClock.now() + 1_000;
  const conditions = { validUntil: new Date(until).toISOString() };
  for (const policy of policies) expect((await api(b, "PATCH", policy, { conditions })).status).toBe(200);
  await eventually(async () => over.every((is) => is()) && !(await heard()), 1_000 + SOON_MS);
  expect(systemClock.now()).toBeGreaterThan(until);
  for (const stream of streams) await stream.close();
});

test("the socket of an agent's ports ends with the agent's token", async () => {
  const open = async (seconds?: number) => {
    const agent = await newAgent();
    const url = `${b.url.replace("http", "ws")}/api/v1/agents/${agent}/ports/tunnel`;
    const ws = new WebSocket(url, { headers: await asAgent(agent, seconds) });
    await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject));
    const closed = new Promise<number>((resolve) => ws.once("close", resolve));
    return { agent, closed };
  };
  const { agent, closed } = await open();
  const over = isOver(closed);
  await query("update agents set token_version = 2 where id = $1", [agent]);
  await eventually(over, SOON_MS);
  expect(await closed).toBe(4401);
  expect(await (await open(1)).closed).toBe(4401);
});

test("a runtime broker's socket ends when the secret that it was opened with counts no more", async () => {
  const runtimeBroker = await scene.runtimeBroker(b);
  const rotate = (grace: number) =>
    api(a, "POST", `/api/v1/brokers/${runtimeBroker.id}/rotate-secret`, { gracePeriod: grace * 1e9 });
  const askedAt = systemClock.now();
  expect((await rotate(1)).status).toBe(200);
  await eventually(() => runtimeBroker.closes.length === 1, 1_000 + SOON_MS);
  expect(systemClock.now() - askedAt).toBeGreaterThan(990);
  await eventually(() => runtimeBroker.refusedDials.includes(401));
  const other = await scene.runtimeBroker(b);
  const deleted = await scene.runtimeBroker(b);
  expect((await api(a, "POST", `/api/v1/brokers/${other.id}/rotate-secret`, { gracePeriod: 0 })).status).toBe(200);
  expect((await api(a, "DELETE", `/api/v1/runtime-brokers/${deleted.id}`)).status).toBe(204);
  await eventually(() => other.closes.length === 1 && deleted.closes.length === 1, SOON_MS);
});

/** A project of somebody else, with an agent, and ways to have something happen to both. */
const elsewhere = async (labels: object = {}) => {
  const { projectId, agentId } = { projectId: systemRandom.uuid(), agentId: systemRandom.uuid() };
  await query("insert into projects (id, name, slug, labels) values ($1, 'p', $2, $3)", [projectId, projectId, labels]);
  await query("insert into agents (id, project_id, slug, name, phase) values ($1, $2, 'a', 'a', 'running')", [
    agentId,
    projectId,
  ]);
  return {
    projectId,
    agentId,
    happen: async () => {
      // By calls: they are told at once.
      for (const path of [`projects/${projectId}`, `agents/${agentId}`])
        expect((await api(a, "PATCH", `/api/v1/${path}`, { name: systemRandom.uuid() })).status).toBe(200);
    },
  };
};
type Elsewhere = Awaited<ReturnType<typeof elsewhere>>;

const subjectsOf = (stream: EventStream): string[] =>
  stream.updates().map(({ data }) => String(Reflect.get(Object(data), "subject")));

const membership = (p: Elsewhere, userId: string, then: string) =>
  query(`with g as (select id from groups where project_id = $1 and group_type = 'explicit') ${then}`, [
    p.projectId,
    userId,
  ]);
const policyFor = async (p: Elsewhere, userId: string, resourceType: string) => {
  const made = await api(a, "POST", "/api/v1/policies", {
    name: `read ${p.projectId} ${resourceType}`,
    scopeType: "project",
    scopeId: p.projectId,
    resourceType,
    actions: ["read"],
    effect: "allow",
  });
  const path = `/api/v1/policies/${made.text("id")}/bindings`;
  const bound = await api(a, "POST", path, { principalType: "user", principalId: userId });
  expect(bound.status).toBe(201);
  return () => api(b, "DELETE", `${path}/user/${userId}`);
};
const columns = (p: Elsewhere, values: string) => async () => {
  await query(`update agents set ${values} where id = $1`, [p.agentId]);
  await query(`update projects set ${values} where id = $1`, [p.projectId]);
};

/** How a project comes into somebody's sight, and what takes it out again. */
const SIGHTS: readonly (readonly [
  what: string,
  show: (p: Elsewhere, userId: string) => Promise<() => Promise<unknown>>,
])[] = [
  [
    "its members' group takes somebody in",
    async (p, userId) => {
      await membership(p, userId, "insert into group_memberships (group_id, user_id) select g.id, $2 from g");
      return () =>
        membership(p, userId, "delete from group_memberships using g where group_id = g.id and user_id = $2");
    },
  ],
  [
    "it and its agent become visible to the team",
    async (p) => {
      await columns(p, "visibility = 'team'")();
      return columns(p, "visibility = 'private'");
    },
  ],
  [
    "it changes hands",
    async (p, userId) => {
      await query("update projects set owner_id = $2 where id = $1", [p.projectId, userId]);
      return () => query("update projects set owner_id = null where id = $1", [p.projectId]);
    },
  ],
  [
    "policies that show it are bound",
    async (p, userId) => {
      const [ofProject, ofAgents] = [await policyFor(p, userId, "project"), await policyFor(p, userId, "agent")];
      return async () => {
        expect((await ofProject()).status).toBe(204);
        expect((await ofAgents()).status).toBe(204);
      };
    },
  ],
  [
    "its labels are those that a policy shows",
    async (p, userId) => {
      const made = await api(a, "POST", "/api/v1/policies", {
        name: `labelled ${p.projectId}`,
        scopeType: "hub",
        resourceType: "*",
        actions: ["read"],
        effect: "allow",
        conditions: { labels: { shown: p.projectId } },
      });
      await api(a, "POST", `/api/v1/policies/${made.text("id")}/bindings`, {
        principalType: "user",
        principalId: userId,
      });
      await columns(p, `labels = '{"shown": "${p.projectId}"}'`)();
      return columns(p, "labels = '{}'");
    },
  ],
];

test.each(SIGHTS)("open streams hear of a project once %s, and no more once that is over", async (_, show) => {
  const who = await person();
  const own = await elsewhere();
  await query("update projects set owner_id = $2 where id = $1", [own.projectId, who.id]);
  const p = await elsewhere();
  const streams = await listening(who.bearer);
  const over = streams.map(({ ended }) => isOver(ended));
  const wanted = [`project.${p.projectId}.updated`, `agent.${p.agentId}.status`];
  /** What of the project and its agent is heard by both streams when something happens now. */
  const heard = async (): Promise<readonly string[]> => {
    const before = streams.map((stream) => subjectsOf(stream).length);
    await p.happen();
    await own.happen();
    const later = streams.map((stream, i) => () => subjectsOf(stream).slice(before[i]));
    // What happens later is told later.
    await eventually(() => later.every((of) => of().includes(`agent.${own.agentId}.status`)));
    const all = later.map((of) => of().filter((s) => wanted.includes(s)));
    return wanted.filter((s) => all.every((of) => of.includes(s)));
  };
  const anything = async () => (await heard()).length > 0;
  expect(await anything()).toBe(false);
  const hide = await show(p, who.id);
  await eventually(async () => (await heard()).length === wanted.length, SOON_MS);
  await hide();
  await eventually(async () => !(await anything()), SOON_MS);
  expect(await anything()).toBe(false);
  expect(over.map((is) => is())).toEqual([false, false]);
  for (const stream of streams) await stream.close();
});

test("open streams hear of a new project that they may read, from its making on, and not of another", async () => {
  const [owner, reader] = [await person(), await person()];
  const streams = [...(await listening(owner.bearer)), ...(await listening(reader.bearer))];
  const make = async (visibility: string) => {
    const made = await owner.call("POST", "/api/v1/projects", { name: `new ${visibility}`, visibility });
    expect([made.status, made.get("visibility")]).toEqual([201, visibility]);
    return made.text("id");
  };
  const [hidden, shown] = [await make("private"), await make("team")];
  await eventually(() => streams.every((s) => subjectsOf(s).includes(`project.${shown}.created`)), SOON_MS);
  expect(streams.map((s) => subjectsOf(s).includes(`project.${hidden}.created`))).toEqual([true, true, false, false]);
  // What others start in it is the owner's to see as well.
  await eventually(async () => {
    const agent = await seed(scene.database).agent({ project_id: hidden, slug: systemRandom.uuid() });
    await eventually(() => streams.slice(0, 2).every((s) => subjectsOf(s).includes(`agent.${agent}.created`)), SOON_MS);
  }, 5 * SOON_MS);
  for (const stream of streams) await stream.close();
});
