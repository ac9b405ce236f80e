import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { AccessFacts, AGENT_SCOPES, NOBODY, type Principal, type UserPrincipal } from "../auth/index.ts";
import { accessExplainRoutes } from "./accessExplain.ts";
import { accessQuestionRoutes } from "./accessQuestions.ts";
import {
  ADMIN,
  agentPrincipal,
  at,
  fieldOf,
  listAt,
  makeAgent,
  makePerson,
  makeProject,
  makeRuntimeBroker,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

const POLICIES = "/api/v1/policies";
let hub: TestHub;

beforeAll(async () => {
  hub = await startTestHub((db) => {
    const deps = { db, access: new AccessFacts(systemClock, db), developmentToken: "on" };
    return [...accessQuestionRoutes(deps), ...accessExplainRoutes(deps)];
  });
});
afterAll(() => hub.stop());

const person = (name: string, status: "active" | "suspended" = "active"): Promise<UserPrincipal> =>
  makePerson(hub, name, { status });
const make = async (body: object): Promise<string> => {
  const plain = { name: "p", scopeType: "hub", actions: ["read"], effect: "allow" };
  const answer = await hub.as(ADMIN).send("POST", POLICIES, { ...plain, ...body });
  expect([answer.status, answer.body]).toEqual([201, expect.anything()]);
  return textAt(answer.body, "id");
};
const bind = (policy: string, principalType: string, principalId: string) =>
  hub.as(ADMIN).send("POST", `${POLICIES}/${policy}/bindings`, { principalType, principalId });

test("a policy: made, shown, changed in all but its scope, deleted", async () => {
  const conditions = {
    labels: { team: "a" },
    validFrom: "2026-01-01T00:00:00Z",
    sourceIps: ["10.0.0.0/8", "2001:db8::1"],
  };
  const made = await hub.as(ADMIN).send("POST", POLICIES, {
    name: "readers",
    scopeType: "hub",
    resourceType: "agent",
    actions: ["read", "list", "read"],
    effect: "deny",
    conditions,
    priority: 7,
    labels: { a: "b" },
  });
  const policy = {
    id: expect.any(String),
    name: "readers",
    scopeType: "hub",
    scopeId: "",
    resourceType: "agent",
    actions: ["read", "list"],
    effect: "deny",
    conditions,
    priority: 7,
    labels: { a: "b" },
    created: expect.any(String),
    updated: expect.any(String),
    createdBy: ADMIN.id,
  };
  expect([made.status, made.body]).toEqual([201, policy]);
  const path = `${POLICIES}/${textAt(made.body, "id")}`;
  const shown = await hub.as(ADMIN).get(path);
  expect(shown.body).toEqual({ ...policy, _capabilities: { actions: ["read", "update", "delete"] } });
  const changed = await hub.as(ADMIN).send("PATCH", path, {
    name: "",
    description: "who may not",
    actions: [],
    effect: "allow",
    priority: 0,
    scopeType: "project",
    conditions: {},
  });
  const { conditions: _, ...rest } = policy;
  expect(changed.body).toEqual({ ...rest, description: "who may not", effect: "allow", priority: 0 });
  expect((await hub.as(ADMIN).send("DELETE", path)).status).toBe(204);
  expect((await hub.as(ADMIN).send("DELETE", path)).status).toBe(404);
  expect((await hub.as(ADMIN).get(path)).status).toBe(404);
  expect((await hub.as(ADMIN).get(`${POLICIES}/no-uuid`)).status).toBe(404);
});

test.each([
  [{ name: "" }, "name"],
  [{ scopeType: "world" }, "scopeType"],
  [{ scopeType: "project" }, "scopeId"],
  [{ scopeType: "project", scopeId: "x" }, "scopeId"],
  [{ scopeType: "project", scopeId: "0e0e0e0e-0000-4000-8000-000000000001" }, "scopeId"],
  [{ actions: [] }, "actions"],
  [{ actions: ["fly"] }, "actions.0"],
  [{ effect: "maybe" }, "effect"],
  [{ resourceType: "unicorn" }, "resourceType"],
  [{ resourceId: "x" }, "resourceId"],
  [{ priority: 1.5 }, "priority"],
  [{ priority: 3_000_000_000 }, "priority"],
  [{ conditions: { sourceIps: ["everywhere"] } }, "conditions.sourceIps.0"],
  [{ conditions: { sourceIps: ["10.0.0.0/33"] } }, "conditions.sourceIps.0"],
  [{ conditions: { validUntil: "tomorrow" } }, "conditions.validUntil"],
  [
    { conditions: { delegatedFrom: { principalType: "user", principalId: "me" } } },
    "conditions.delegatedFrom.principalId",
  ],
  [{ conditions: { delegatedFromGroup: "g" } }, "conditions.delegatedFromGroup"],
])("a policy with %j is refused by name", async (wrong, field) => {
  const right = { name: "p", scopeType: "hub", actions: ["read"], effect: "allow" };
  const answer = await hub.as(ADMIN).send("POST", POLICIES, { ...right, ...wrong });
  expect([answer.status, fieldOf(answer.body)]).toEqual([400, field]);
});

test("weak point 21: whom a policy is bound to is said once; who is unknown is refused by name", async () => {
  const policy = await make({ name: "bound" });
  const ann = await person("ann");
  const binding = { policyId: policy, principalType: "user", principalId: ann.id };
  for (let i = 0; i < 2; i += 1) {
    const bound = await bind(policy, "user", ann.id);
    expect([bound.status, bound.body]).toEqual([201, binding]);
  }
  const listed = await hub.as(ADMIN).get(`${POLICIES}/${policy}/bindings`);
  expect(listed.body).toEqual({ bindings: [binding] });
  for (const type of ["user", "group", "agent"]) {
    const unknown = await bind(policy, type, systemRandom.uuid());
    expect([unknown.status, fieldOf(unknown.body)]).toEqual([400, "principalId"]);
  }
  expect((await bind(policy, "project", ann.id)).status).toBe(400);
  expect((await bind(policy, "user", "x")).status).toBe(400);
  const path = `${POLICIES}/${policy}/bindings/user/${ann.id}`;
  expect((await hub.as(ADMIN).send("DELETE", path)).status).toBe(204);
  expect((await hub.as(ADMIN).send("DELETE", path)).status).toBe(404);
  expect((await hub.as(ADMIN).send("DELETE", `${POLICIES}/${policy}/bindings/thing/x`)).status).toBe(404);
});

test("weak point 12: policies are for admins alone, whoever else has signed in", async () => {
  const policy = await make({ name: "not yours" });
  const ann = await person("ann");
  const agent = agentPrincipal(systemRandom.uuid(), systemRandom.uuid());
  const limits = { tokenId: systemRandom.uuid(), projectId: systemRandom.uuid(), scopes: ["agent:read" as const] };
  for (const stranger of [ann, agent, { ...ADMIN, limits }]) {
    const as = hub.as(stranger);
    const grab = { name: "all mine", scopeType: "hub", actions: ["*"], effect: "allow" };
    const answers = [
      await as.get(POLICIES),
      await as.get(`${POLICIES}/${policy}`),
      await as.send("POST", POLICIES, grab),
      await as.send("PATCH", `${POLICIES}/${policy}`, { actions: ["*"] }),
      await as.send("DELETE", `${POLICIES}/${policy}`),
      await as.get(`${POLICIES}/${policy}/bindings`),
      await as.send("POST", `${POLICIES}/${policy}/bindings`, { principalType: "user", principalId: ann.id }),
    ];
    expect(answers.map((a) => a.status)).toEqual(answers.map(() => 403));
  }
  expect((await hub.as(NOBODY).get(POLICIES)).status).toBe(401);
});

test("weak point 22: the list has pages that miss nothing, filters, and true counts", async () => {
  for (let i = 0; i < 5; i += 1) await make({ name: `page ${i}`, resourceType: "skill", effect: "deny" });
  const names: string[] = [];
  let cursor = "";
  do {
    const { body } = await hub.as(ADMIN).get(`${POLICIES}?resourceType=skill&effect=deny&limit=2&cursor=${cursor}`);
    expect(at(body, "totalCount")).toBe(5);
    expect(at(body, "_capabilities", "actions")).toEqual(["create", "list"]);
    names.push(...listAt(body, "policies").map((p) => textAt(p, "name")));
    cursor = Object(body).nextCursor ?? "";
  } while (cursor !== "");
  expect(names).toEqual(["page 0", "page 1", "page 2", "page 3", "page 4"]);
  const seeded = await hub.as(ADMIN).get(`${POLICIES}?scopeType=hub&resourceType=*&effect=allow`);
  expect(listAt(seeded.body, "policies").map((p) => textAt(p, "name"))).toContain("hub-member-read-all");
});

test("evaluate says what would be decided, and by what; of oneself, and to admins of everybody", async () => {
  const [ann, bob] = [await person("ann"), await person("bob")];
  const project = await makeProject(hub, ann, "evaluated");
  const ask = (who: Parameters<TestHub["as"]>[0], about: object) =>
    hub.as(who).send("POST", `${POLICIES}/evaluate`, { principalType: "user", resourceType: "project", ...about });
  const onProject = { resourceId: project, action: "update" };
  expect((await ask(ann, { principalId: ann.id, ...onProject })).body).toMatchObject({
    allowed: true,
    reason: "resource owner",
  });
  expect((await ask(bob, { principalId: ann.id, ...onProject })).status).toBe(403);
  expect((await ask(ADMIN, { principalId: bob.id, ...onProject })).body).toMatchObject({
    allowed: false,
    reason: "default deny",
  });
  const policy = await make({ name: "updaters", scopeType: "project", scopeId: project, actions: ["update"] });
  await bind(policy, "user", (await person("dan")).id);
  const eve = await person("eve");
  await bind(policy, "user", eve.id);
  expect((await ask(eve, { principalId: eve.id, ...onProject })).body).toMatchObject({
    allowed: true,
    reason: "policy match",
    matchedPolicy: policy,
    policyName: "updaters",
    scope: "project",
  });
  const gone = await person("gone", "suspended");
  expect((await ask(ADMIN, { principalId: gone.id, ...onProject })).body).toEqual({
    allowed: false,
    reason: "user is suspended",
  });
  const runtimeBroker = await makeRuntimeBroker(hub, "evaluated");
  const agent = await makeAgent(hub, project, "e1", runtimeBroker, { owner: ann.id });
  const ofAgent = { principalType: "agent", principalId: agent };
  expect(
    (await ask(agentPrincipal(agent, project), { ...ofAgent, resourceId: project, action: "read" })).body,
  ).toMatchObject({ allowed: true, effectiveGroups: [expect.any(String)] });
  for (const [wrong, status] of [
    [{ principalType: "group", principalId: ann.id, ...onProject }, 400],
    [{ principalId: systemRandom.uuid(), ...onProject }, 404],
    [{ principalId: ann.id, resourceId: systemRandom.uuid(), action: "read" }, 404],
    [{ principalId: ann.id, resourceType: "unicorn", action: "read" }, 400],
    [{ principalId: ann.id, ...onProject, action: "fly" }, 400],
  ] as const)
    expect((await ask(ADMIN, wrong)).status).toBe(status);
});

test("what is explained of an agent is what its token decides; to admins, what tokens of this hub allow", async () => {
  const owner = await person("explained");
  const project = await makeProject(hub, owner, "explained");
  const agent = await makeAgent(hub, project, "x1", await makeRuntimeBroker(hub, "explained"), { owner: owner.id });
  const ask = async (who: Principal, about: object) => {
    const asked = { principalType: "agent", principalId: agent, resourceId: project, ...about };
    const query = new URLSearchParams(Object.entries(asked));
    const told = await hub.as(who).get(`/api/v1/access/explain?${query}`);
    const { status, body } = await hub.as(who).send("POST", `${POLICIES}/evaluate`, asked);
    expect([told.status, status, at(told.body, "reason")]).toEqual([200, 200, at(body, "reason")]);
    return [at(body, "allowed"), at(body, "reason")];
  };
  const creates = { resourceType: "project", action: "create" };
  const scoped = agentPrincipal(agent, project, [AGENT_SCOPES.createAgents]);
  expect(await ask(scoped, creates)).toEqual([true, "scope project:agent:create"]);
  expect(await ask(agentPrincipal(agent, project), creates)).toEqual([false, "scope project:agent:create is missing"]);
  const reports = { resourceType: "agent", resourceId: agent, action: "report" };
  expect(await ask(scoped, reports)).toEqual([false, "scope agent:status:update is missing"]);
  // Every agent may, where development login is on.
  expect(await ask(ADMIN, creates)).toEqual([true, "scope project:agent:create"]);
  expect(await ask(ADMIN, reports)).toEqual([true, "scope agent:status:update"]);
});

test("principals: their groups, direct and through others, for themselves and for admins", async () => {
  const [ann, bob] = [await person("ann"), await person("bob")];
  const inner = textAt((await hub.as(ann).send("POST", "/api/v1/groups", { name: "Inner of ann" })).body, "id");
  const outer = textAt((await hub.as(bob).send("POST", "/api/v1/groups", { name: "Outer of bob" })).body, "id");
  await hub.as(bob).send("POST", `/api/v1/groups/${outer}/members`, { memberType: "group", memberId: inner });
  const path = `/api/v1/principals/user/${ann.id}`;
  const [members] = await hub.test.query("select id from groups where slug = 'hub-members'");
  const described = await hub.as(ann).get(path);
  expect(described.body).toEqual({
    principal: { type: "user", id: ann.id, displayName: "ann" },
    directGroups: [members?.id, inner],
    effectiveGroups: [members?.id, inner, outer],
  });
  expect((await hub.as(ADMIN).get(path)).body).toEqual(described.body);
  expect((await hub.as(bob).get(path)).status).toBe(403);
  expect((await hub.as(ann).get(`/api/v1/principals/group/${inner}`)).body).toEqual({
    principal: { type: "group", id: inner, displayName: "Inner of ann" },
    directGroups: [],
    effectiveGroups: [],
  });
  const project = await makeProject(hub, ann, "principals");
  const agent = await makeAgent(hub, project, "p1", await makeRuntimeBroker(hub, "principals"), { owner: ann.id });
  const ofAgent = await hub.as(agentPrincipal(agent, project)).get(`/api/v1/principals/agent/${agent}`);
  expect(ofAgent.body).toEqual({
    principal: { type: "agent", id: agent, displayName: "p1", projectId: project },
    directGroups: [expect.any(String)],
    effectiveGroups: [expect.any(String)],
    delegatesFrom: { type: "user", id: ann.id, displayName: "ann" },
  });
  expect((await hub.as(bob).get(`/api/v1/principals/agent/${agent}`)).status).toBe(404);
  expect((await hub.as(ann).get(`/api/v1/principals/robot/${agent}`)).status).toBe(400);
  expect((await hub.as(ADMIN).get(`/api/v1/principals/user/${agent}`)).status).toBe(404);
});
