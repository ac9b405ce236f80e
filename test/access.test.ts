import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type ApiReply, api, eventually, openEventStream, type Replica, Scene, testLogin } from "@rootstock/testkit";

/** Groups and policies over two replicas: what one replica is told, the other decides by. */

let scene: Scene;
let a: Replica;
let b: Replica;
let root: string;

interface Person {
  readonly id: string;
  readonly token: string;
}

beforeAll(async () => {
  scene = await Scene.create();
  const env = { ROOTSTOCK_TEST_LOGIN: "1" };
  [a, b] = [await scene.replica(env), await scene.replica(env)];
  root = (await testLogin(a, { email: "root@example.org", role: "admin" })).text("accessToken");
});
afterAll(() => scene.end());

const as = (token: string, method: string, path: string, body?: unknown, replica: Replica = a): Promise<ApiReply> =>
  api(replica, method, `/api/v1${path}`, body, { token });
const person = async (name: string, role: "member" | "viewer" = "member"): Promise<Person> => {
  const login = await testLogin(a, { email: `${name}@example.org`, role });
  return { id: login.text("user.id"), token: login.text("accessToken") };
};
const project = async (by: Person, name: string, visibility = "private"): Promise<string> =>
  (await as(by.token, "POST", "/projects", { name, visibility })).text("id");
const membersOf = async (id: string): Promise<string> => {
  const [group] = await scene.database.query<{ id: string }>(
    "select id from groups where project_id = $1 and group_type = 'explicit'",
    [id],
  );
  return group?.id ?? "";
};
const status = async (who: Person, path: string, replica: Replica = b): Promise<number> =>
  (await as(who.token, "GET", path, undefined, replica)).status;

test("weak point 15: who is in the members' group reads the project at every replica, at once, and no longer", async () => {
  const [ann, bob] = [await person("ann"), await person("bob")];
  const id = await project(ann, "one");
  expect(await status(bob, `/projects/${id}`)).toBe(404);
  const members = await membersOf(id);
  // Not by themselves: only whoever runs the project lets people in.
  const member = { memberType: "user", memberId: bob.id };
  expect((await as(bob.token, "POST", `/groups/${members}/members`, member)).status).toBeGreaterThanOrEqual(403);
  expect((await as(ann.token, "POST", `/groups/${members}/members`, member)).status).toBe(201);
  await eventually(async () => (await status(bob, `/projects/${id}`)) === 200, 2_000);
  const list = await as(bob.token, "GET", "/projects", undefined, b);
  expect(list.list("projects")).toMatchObject([{ id, _capabilities: { actions: ["read"] } }]);
  expect(list.get("totalCount")).toBe(1);
  expect((await as(bob.token, "PATCH", `/projects/${id}`, { name: "mine" }, b)).status).toBe(403);
  const agents = await as(bob.token, "GET", `/projects/${id}/agents`, undefined, b);
  expect(agents.get("_capabilities.actions")).toEqual(["create", "list", "stop_all"]);
  expect((await as(ann.token, "DELETE", `/groups/${members}/members/user/${bob.id}`)).status).toBe(204);
  await eventually(async () => (await status(bob, `/projects/${id}`)) === 404, 2_000);
});

test("who may make agents in a project takes up nobody else's, whatever it waits for", async () => {
  const [moe, ned] = [await person("moe"), await person("ned")];
  const id = await project(moe, "taken up");
  await as(moe.token, "POST", `/groups/${await membersOf(id)}/members`, { memberType: "user", memberId: ned.id });
  await eventually(async () => (await status(ned, `/projects/${id}`)) === 200, 2_000);
  await scene.runtimeBroker(a);
  const make = (by: Person, more: object) =>
    as(by.token, "POST", `/projects/${id}/agents`, { name: "a1", task: "mine", ...more }, b);
  const agent = (await make(moe, {})).text("agent.id");
  for (const [phase, more] of [
    ["provisioning", { gatherEnv: true }],
    ["provisioning", {}],
    ["created", {}],
    ["suspended", { resume: true }],
    ["stopped", { resume: true }],
  ] as const) {
    await scene.database.query("update agents set phase = $1, launching = false where id = $2", [phase, agent]);
    const { status: answered, body } = await make(ned, { ...more, task: "theirs" });
    expect([phase, more, answered, body]).toEqual([phase, more, 403, expect.stringContaining("you may not start")]);
  }
  expect((await as(moe.token, "GET", `/agents/${agent}`)).get("appliedConfig.task")).toBe("mine");
});

test("a policy for a group gives and takes at every replica; a deny never reaches the owner", async () => {
  const [cas, dot] = [await person("cas"), await person("dot")];
  const id = await project(cas, "two");
  const group = (await as(root, "POST", "/groups", { name: "auditors" })).text("id");
  await as(root, "POST", `/groups/${group}/members`, { memberType: "user", memberId: dot.id });
  const policy = async (effect: string, priority: number) => {
    const made = await as(root, "POST", "/policies", {
      name: `auditors ${effect}`,
      scopeType: "project",
      scopeId: id,
      resourceType: "project",
      actions: ["read", "update"],
      effect,
      priority,
    });
    expect(made.status).toBe(201);
    const bound = { principalType: "group", principalId: group };
    expect((await as(root, "POST", `/policies/${made.text("id")}/bindings`, bound)).status).toBe(201);
    return made.text("id");
  };
  await policy("allow", 0);
  await eventually(async () => (await status(dot, `/projects/${id}`)) === 200, 2_000);
  expect((await as(dot.token, "PATCH", `/projects/${id}`, { name: "renamed" }, b)).status).toBe(200);
  expect((await as(dot.token, "DELETE", `/projects/${id}`, undefined, b)).status).toBe(403);
  const deny = await policy("deny", 1);
  await as(root, "POST", `/policies/${deny}/bindings`, { principalType: "user", principalId: cas.id });
  await eventually(async () => (await status(dot, `/projects/${id}`)) === 404, 2_000);
  expect((await as(dot.token, "GET", "/projects", undefined, b)).list("projects")).toEqual([]);
  expect(await status(cas, `/projects/${id}`)).toBe(200);
  const why = `/access/explain?principalType=user&principalId=${dot.id}&action=update&resourceType=project&resourceId=${id}`;
  const told = await as(root, "GET", why, undefined, b);
  expect(told.json).toMatchObject({
    allowed: false,
    reason: "policy match",
    matchedPolicy: { id: deny, name: "auditors deny", effect: "deny", scopeType: "project" },
    byFacts: true,
  });
  expect(told.list("effectiveGroups")).toContainEqual(
    expect.objectContaining({ id: group, slug: "auditors", role: "member" }),
  );
});

test("weak point 19: private is private, team is for hub members, public for everybody; viewers change nothing", async () => {
  const [eve, fay, gil] = [await person("eve"), await person("fay"), await person("gil", "viewer")];
  const [secret, team, open] = [
    await project(eve, "secret"),
    await project(eve, "ours", "team"),
    await project(eve, "everybodys", "public"),
  ];
  const seen = async (who: Person) => Promise.all([secret, team, open].map((id) => status(who, `/projects/${id}`)));
  expect(await seen(fay)).toEqual([404, 200, 200]);
  expect(await seen(gil)).toEqual([404, 200, 200]);
  expect((await as(gil.token, "POST", "/projects", { name: "no" })).status).toBe(403);
  const [hubMembers] = await scene.database.query<{ id: string }>("select id from groups where slug = 'hub-members'");
  const out = await as(root, "DELETE", `/groups/${hubMembers?.id}/members/user/${fay.id}`);
  expect(out.status).toBe(204);
  await eventually(async () => (await status(fay, `/projects/${team}`)) === 404, 2_000);
  expect(await seen(fay)).toEqual([404, 404, 200]);
  expect((await as(fay.token, "POST", "/projects", { name: "no" }, b)).status).toBe(403);
});

test("an event stream tells nothing more of what is no longer shown, whether it was there before or is opened anew", async () => {
  const [hal, ida] = [await person("hal"), await person("ida")];
  const id = await project(hal, "watched");
  const members = await membersOf(id);
  await as(hal.token, "POST", `/groups/${members}/members`, { memberType: "user", memberId: ida.id });
  await eventually(async () => (await status(ida, `/projects/${id}`)) === 200, 2_000);
  const stream = await openEventStream(b, { patterns: [`project.${id}.>`], token: ida.token });
  await as(hal.token, "PATCH", `/projects/${id}`, { name: "told" });
  await eventually(() => stream.updates().length > 0);
  await as(hal.token, "DELETE", `/groups/${members}/members/user/${ida.id}`);
  const own = await openEventStream(b, { patterns: [`project.${id}.>`], token: hal.token });
  const heardOf = async (name: string): Promise<boolean> => {
    await as(hal.token, "PATCH", `/projects/${id}`, { name });
    await eventually(() => own.updates().some(({ data }) => JSON.stringify(data).includes(name)));
    return stream.updates().some(({ data }) => JSON.stringify(data).includes(name));
  };
  let attempts = 0;
  await eventually(async () => {
    attempts += 1;
    return !(await heardOf(`attempt ${attempts}`));
  }, 2_000);
  const again = await openEventStream(b, { patterns: [`project.${id}.>`], token: ida.token });
  expect(await heardOf("the last")).toBe(false);
  expect(again.updates()).toEqual([]);
  await Promise.all([stream.close(), again.close(), own.close()]);
});

test("a decision is explained to admins and to oneself; what one may not see is as if it were not there", async () => {
  const [jon, kim] = [await person("jon"), await person("kim")];
  const id = await project(jon, "jons");
  const ask = (token: string, of: string, more: Record<string, string>) =>
    as(token, "GET", `/access/explain?${new URLSearchParams({ principalType: "user", principalId: of, ...more })}`);
  const deletes = { action: "delete", resourceType: "project", resourceId: id };
  expect((await ask(jon.token, jon.id, deletes)).json).toMatchObject({
    allowed: true,
    reason: "resource owner",
    byFacts: false,
  });
  expect((await ask(root, kim.id, deletes)).json).toMatchObject({
    allowed: false,
    reason: "default deny",
    byFacts: true,
  });
  expect((await ask(kim.token, jon.id, deletes)).status).toBe(403);
  const nothing = { ...deletes, resourceId: "11111111-1111-4111-8111-111111111111" };
  const hidden = (await ask(kim.token, kim.id, deletes)).json;
  expect((await ask(kim.token, kim.id, nothing)).json).toEqual(hidden);
  const evaluate = async (token: string, more: object) => {
    const asked = { principalType: "user", principalId: kim.id, ...more };
    const { status, json } = await as(token, "POST", "/policies/evaluate", asked);
    return { status, json };
  };
  const told = await evaluate(kim.token, deletes);
  expect(told).toMatchObject({ status: 200, json: { allowed: false, reason: "default deny" } });
  expect(await evaluate(kim.token, nothing)).toEqual(told);
  expect((await evaluate(root, nothing)).status).toBe(404);
  expect((await ask(root, kim.id, nothing)).status).toBe(404);
  for (const bad of [{ action: "fly" }, { resourceType: "moon" }, { principalType: "group" }])
    expect((await ask(root, kim.id, { ...deletes, ...bad })).status).toBe(400);
  const create = await ask(kim.token, kim.id, { action: "create", resourceType: "project" });
  expect(create.json).toMatchObject({ allowed: true, matchedPolicy: { name: "hub-member-create-projects" } });
});

test("lists of people and groups show whom and what can be read one by one: policies count for both, and totals are true", async () => {
  const [ann, bob, cyd, pat] = [
    await person("l-ann"),
    await person("l-bob"),
    await person("l-cyd"),
    await person("l-pat"),
  ];
  const shown = await project(pat, "list shown", "team");
  const hidden = await project(pat, "list hidden");
  const group = async (name: string, labels = {}) =>
    (await as(root, "POST", "/groups", { name: `list ${name}`, labels })).text("id");
  const [plain, labelled, single] = [
    await group("plain"),
    await group("labelled", { tier: "x" }),
    await group("single"),
  ];
  const bind = async (given: object) => {
    const policy = {
      name: `list ${JSON.stringify(given)}`,
      scopeType: "hub",
      actions: ["read"],
      effect: "deny",
      ...given,
    };
    const made = await as(root, "POST", "/policies", policy);
    const bound = { principalType: "user", principalId: ann.id };
    expect((await as(root, "POST", `/policies/${made.text("id")}/bindings`, bound)).status).toBe(201);
    return made.text("id");
  };
  const ids = (reply: ApiReply, list: string) => reply.list(list).map((row) => String(Reflect.get(Object(row), "id")));
  /** What the lists show of those, if they show what each of them answers for itself and count that. */
  const seen = async () => {
    const all = {
      users: await as(root, "GET", "/users?limit=200"),
      groups: await as(root, "GET", "/groups?limit=500"),
    };
    const found: string[] = [];
    for (const list of ["users", "groups"] as const) {
      const readable: string[] = [];
      for (const id of ids(all[list], list)) if ((await status(ann, `/${list}/${id}`)) === 200) readable.push(id);
      const listed = await as(ann.token, "GET", `/${list}?limit=200`, undefined, b);
      expect([ids(listed, list).sort(), listed.get("totalCount")]).toEqual([readable.sort(), readable.length]);
      const page = await as(ann.token, "GET", `/${list}?limit=${readable.length}`, undefined, b);
      expect([ids(page, list).length, page.get("nextCursor")]).toEqual([readable.length, undefined]);
      found.push(...readable);
    }
    const named = { bob: bob.id, cyd: cyd.id, plain, labelled, single };
    return Object.entries(named).flatMap(([name, id]) => (found.includes(id) ? [name] : []));
  };
  const settled = (want: readonly string[]) => eventually(async () => expect(await seen()).toEqual(want), 5_000);

  await settled(["bob", "cyd", "plain", "labelled", "single"]);
  await bind({ resourceType: "user", resourceId: bob.id, priority: 5 });
  await bind({ resourceType: "group", conditions: { labels: { tier: "x" } }, priority: 5 });
  await bind({ scopeType: "resource", scopeId: single, resourceType: "*" });
  await settled(["cyd", "plain"]);
  // What shows a project shows none of its groups, which are named by themselves.
  await bind({ resourceType: "project", resourceId: hidden, effect: "allow", priority: 9 });
  await bind({ scopeType: "project", scopeId: shown, resourceType: "group" });
  await settled(["cyd", "plain"]);
  const nobody = await bind({ resourceType: "*", priority: 7, conditions: { visibility: ["team"] } });
  await bind({ resourceType: "user", resourceId: cyd.id, effect: "allow", priority: 8 });
  await bind({ scopeType: "project", scopeId: hidden, resourceType: "group", effect: "allow" });
  await settled(["cyd"]);
  expect((await as(root, "DELETE", `/policies/${nobody}`)).status).toBe(204);
  await settled(["cyd", "plain"]);
});

test("which projects a runtime broker serves is told of those that one may read", async () => {
  const { id } = await scene.runtimeBroker(a);
  const [ann, pat] = [await person("served-ann"), await person("served-pat")];
  const made = { team: await project(pat, "served team", "team"), own: await project(ann, "served own") };
  const secret = await project(pat, "served secret");
  const served = async (who: string) => {
    const { json } = await as(who, "GET", `/runtime-brokers/${id}/projects`, undefined, b);
    const found = JSON.stringify(json);
    return Object.entries({ ...made, secret }).flatMap(([name, of]) => (found.includes(of) ? [name] : []));
  };
  expect(await served(ann.token)).toEqual(["team", "own"]);
  expect(await served(pat.token)).toEqual(["team", "secret"]);
  expect(await served(root)).toEqual(["team", "own", "secret"]);
});
