import { expect, test } from "@jest/globals";
import type { StoredPolicy } from "@rootstock/store";
import { NOBODY, type Principal, type UserPrincipal } from "../principal.ts";
import type { Action } from "../vocabulary.ts";
import { AGENT_SCOPES } from "./agents.ts";
import { decide, decideAtOnce } from "./decide.ts";
import { type Facts, type GroupFact, NO_FACTS, NO_RIGHTS } from "./facts.ts";
import { byPrecedence, compilePolicy } from "./policies.ts";
import type { AgentResource, ProjectResource, Resource, StoredResource } from "./resource.ts";

const user = (id: string, role: "admin" | "member" | "viewer" = "member"): UserPrincipal => ({
  kind: "user",
  id,
  email: `${id}@example.org`,
  displayName: id,
  role,
});
const token = (owner: UserPrincipal, projectId: string, scopes: readonly string[]): Principal =>
  ({ ...owner, limits: { tokenId: "t1", projectId, scopes } }) as Principal;
const agent = (id: string, projectId: string, ...scopes: string[]): Principal => ({
  kind: "agent",
  id,
  projectId,
  scopes,
  ancestry: [],
});
const machine = (id: string): Principal => ({ kind: "runtimeBroker", id });
const theAgent: AgentResource = {
  kind: "agent",
  id: "a1",
  projectId: "p1",
  ownerId: "owner",
  ancestry: ["root", "owner"],
  runtimeBrokerId: "m1",
  projectOwnerId: "lead",
};
const theProject: ProjectResource = { kind: "project", id: "p1", ownerId: "lead", providers: ["m1"] };
const theMachine: Resource = { kind: "runtimeBroker", id: "m1", createdBy: "maker", autoProvide: false };
const hub: Resource = { kind: "hub" };
const inProject = (kind: StoredResource["kind"], over: Partial<StoredResource> = {}): StoredResource => ({
  kind,
  id: `${kind}1`,
  project: { id: "p1", ownerId: "lead" },
  ...over,
});
const ALL: readonly Action[] = [
  "read",
  "create",
  "update",
  "delete",
  "lifecycle",
  "message",
  "attach",
  "report",
  "refresh",
  "dispatch",
  "rotate",
];

let made = 0;
const policy = (over: Partial<StoredPolicy>): StoredPolicy => {
  made += 1;
  return {
    id: `policy-${made}`,
    name: `policy-${made}`,
    scopeType: "hub",
    scopeId: null,
    resourceType: "*",
    resourceId: null,
    actions: ["read"],
    effect: "allow",
    priority: 0,
    conditions: {},
    delegatedFrom: null,
    delegatedFromGroup: null,
    ...over,
  };
};
const facts = (
  policies: readonly Partial<StoredPolicy>[],
  more: { groups?: readonly GroupFact[]; managed?: string[]; joined?: string[]; now?: number; address?: string } = {},
): Facts => ({
  rights: {
    ...NO_RIGHTS,
    groups: more.groups ?? [],
    managed: new Set(more.managed),
    joined: new Set([...(more.joined ?? []), ...(more.managed ?? [])]),
    policies: policies.map((p) => compilePolicy(policy(p))).sort(byPrecedence),
  },
  now: more.now ?? 0,
  address: more.address,
});
const can = (principal: Principal, action: Action, resource: Resource, given: Facts = NO_FACTS): boolean =>
  decide(principal, action, resource, given).allow;
const why = (principal: Principal, action: Action, resource: Resource, given: Facts = NO_FACTS): string =>
  decide(principal, action, resource, given).reason;
const allowed = (principal: Principal, resource: Resource, given: Facts = NO_FACTS): Action[] =>
  ALL.filter((action) => can(principal, action, resource, given));
const READ_ALL = { actions: ["read", "list"], conditions: { visibility: ["team", "public"] } };

test("an admin may do everything, and no policy hides anything", () => {
  const denied = facts([{ effect: "deny", actions: ["*"] }]);
  for (const resource of [theAgent, theProject, theMachine, hub])
    expect(allowed(user("x", "admin"), resource, denied)).toEqual(ALL);
  expect(why(user("x", "admin"), "delete", theAgent)).toBe("admin bypass");
});

test.each<[string, Principal]>([
  ["nobody", NOBODY],
  ["a replica", { kind: "replica", instanceId: "r" }],
  ["a collector", { kind: "scraper" }],
])("%s may do nothing", (_, principal) => {
  for (const resource of [theAgent, theProject, theMachine, hub]) expect(allowed(principal, resource)).toEqual([]);
});

test.each([
  ["owner", "resource owner"],
  ["root", "ancestor access"],
  ["lead", "project owner/admin"],
])("user %s may do everything with the agent, whatever policies deny", (id, reason) => {
  const denied = facts([{ effect: "deny", actions: ["*"], scopeType: "resource", scopeId: "a1" }]);
  expect(allowed(user(id), theAgent, denied)).toEqual(ALL);
  expect(why(user(id), "attach", theAgent, denied)).toBe(reason);
});

test("whoever runs the project by its members' group may do everything in it, and nothing elsewhere", () => {
  const runs = facts([{ effect: "deny", actions: ["*"] }], { managed: ["p1"] });
  for (const resource of [theAgent, theProject, inProject("secret"), inProject("group")])
    expect(allowed(user("x"), resource, runs)).toEqual(ALL);
  const elsewhere = facts([], { managed: ["p2"] });
  for (const resource of [theAgent, theProject, inProject("secret")])
    expect(allowed(user("x"), resource, elsewhere)).toEqual([]);
});

test("a member of the project reads what is in it but values, creates agents by the seeded policy, and runs its own alone", () => {
  const member = facts(
    [{ scopeType: "project", scopeId: "p1", resourceType: "agent", actions: ["create", "stop_all"] }],
    { joined: ["p1"] },
  );
  expect(allowed(user("x"), theProject, member)).toEqual(["read", "create"]);
  expect(allowed(user("x"), theAgent, member)).toEqual(["read", "create"]);
  expect(allowed(user("x"), inProject("template"), member)).toEqual(["read"]);
  expect(allowed(user("x"), inProject("env"), member)).toEqual([]);
  expect(why(user("x"), "read", theProject, member)).toBe("project member");
  const hidden = facts([{ effect: "deny", resourceType: "agent", resourceId: "a1" }], { joined: ["p1"] });
  expect(can(user("x"), "read", theAgent, hidden)).toBe(false);
  expect(can(user("x"), "read", theProject, hidden)).toBe(true);
});

test("another user may do nothing with an agent or a private project", () => {
  expect(allowed(user("x"), theAgent)).toEqual([]);
  expect(allowed(user("x"), theProject)).toEqual([]);
  expect(why(user("x"), "read", theProject)).toBe("default deny");
});

test("weak point 19: hub members read what is not private, everybody what is public, and nobody values that way", () => {
  const member = facts([READ_ALL]);
  const visible = (visibility: "private" | "team" | "public", given: Facts) => [
    can(user("x"), "read", { ...theProject, visibility }, given),
    can(user("x"), "read", { ...theAgent, visibility, projectVisibility: "public" }, given),
    can(user("x"), "read", { ...theAgent, visibility: "public", projectVisibility: visibility }, given),
    can(user("x"), "read", inProject("template", { project: { id: "p1", ownerId: "lead", visibility } }), given),
  ];
  expect(visible("private", member)).toEqual([false, false, false, false]);
  expect(visible("team", member)).toEqual([true, true, true, true]);
  expect(visible("team", NO_FACTS)).toEqual([false, false, false, false]);
  expect(visible("public", NO_FACTS)).toEqual([true, true, true, true]);
  for (const kind of ["env", "secret"] as const) {
    const open = inProject(kind, { project: { id: "p1", ownerId: "lead", visibility: "public" } });
    expect(can(user("x"), "read", open, member)).toBe(false);
    expect(can(user("x"), "read", { kind }, member)).toBe(false);
    // A policy for everything is none for values; one that names them is.
    expect(can(user("x"), "read", open, facts([{ actions: ["*"] }]))).toBe(false);
    expect(can(user("x"), "read", open, facts([{ resourceType: kind }]))).toBe(true);
  }
  // Hub members see each other, groups and templates of all.
  for (const kind of ["user", "group", "template"] as const)
    expect(can(user("x"), "read", { kind }, member)).toBe(true);
  expect(can(user("x"), "update", { ...theProject, visibility: "public" }, member)).toBe(false);
});

test("weak point 12: people and policies are administered by admins; one's own name is one's own", () => {
  const everything = facts([{ actions: ["*"] }, { resourceType: "user", actions: ["*"] }], { managed: ["p1"] });
  const other: Resource = { kind: "user", id: "y", ownerId: "y" };
  for (const action of ["create", "update", "delete"] as const) {
    expect(can(user("x"), action, other, everything)).toBe(false);
    expect(can(user("x"), action, inProject("policy"), everything)).toBe(false);
    expect(can(user("x"), action, { kind: "hub", of: "policy" }, everything)).toBe(false);
    expect(can(user("x", "admin"), action, other)).toBe(true);
  }
  const self: Resource = { kind: "user", id: "x", ownerId: "x" };
  expect(can(user("x"), "update", self)).toBe(true);
  expect(can(user("x", "viewer"), "update", self)).toBe(true);
  expect(can(user("x"), "delete", self, everything)).toBe(false);
});

test("a viewer reads, what is their own as well, and does nothing else", () => {
  const everything = facts([{ actions: ["*"] }], { managed: ["p1"] });
  for (const resource of [theAgent, theProject]) {
    expect(allowed(user("lead", "viewer"), resource)).toEqual(["read"]);
    expect(allowed(user("x", "viewer"), resource, everything)).toEqual(["read"]);
  }
  expect(can(user("x", "viewer"), "create", { kind: "hub", of: "runtimeBroker" }, everything)).toBe(false);
});

test("weak point 13: projects are created by whom a policy lets; weak point 33: a user without id is nobody's owner", () => {
  const creating = facts([{ resourceType: "project", actions: ["create"] }]);
  expect(can(user("x"), "create", { kind: "hub", of: "project" }, creating)).toBe(true);
  expect(can(user("x"), "create", { kind: "hub", of: "project" })).toBe(false);
  expect(can(user("x"), "create", hub, creating)).toBe(false);
  expect(allowed(user(""), { ...theProject, ownerId: null })).toEqual([]);
});

test("of a runtime broker users see it; its maker changes it; all run agents on one that provides for all, others by policy", () => {
  expect(allowed(user("x"), theMachine)).toEqual(["read"]);
  expect(allowed(user("x"), { ...theMachine, autoProvide: true })).toEqual(["read", "dispatch"]);
  expect(allowed(user("maker"), theMachine)).toEqual(ALL);
  const lent = facts([{ resourceType: "broker", resourceId: "m1", actions: ["dispatch"] }]);
  expect(allowed(user("x"), theMachine, lent)).toEqual(["read", "dispatch"]);
});

test("a group is read by who is in it, filled by its admins, changed by its owners", () => {
  const group: Resource = { kind: "group", id: "g1", ownerId: "maker" };
  const as = (role: GroupFact["role"]) => facts([], { groups: [{ id: "g1", slug: "g", projectId: null, role }] });
  const actions = ["read", "addMember", "removeMember", "update", "delete"] as const;
  const may = (given: Facts) => actions.filter((a) => can(user("x"), a, group, given));
  expect(may(as(null))).toEqual(["read"]);
  expect(may(as("member"))).toEqual(["read"]);
  expect(may(as("admin"))).toEqual(["read", "addMember", "removeMember"]);
  expect(may(as("owner"))).toEqual([...actions]);
  expect(may(NO_FACTS)).toEqual([]);
  expect(can(user("maker"), "delete", group)).toBe(true);
});

test("weak point 18: a project's policy reaches nothing that belongs to no project, nor to another", () => {
  const ofProject = facts([{ scopeType: "project", scopeId: "p1", actions: ["*"] }]);
  expect(can(user("x"), "update", theProject, ofProject)).toBe(true);
  expect(can(user("x"), "update", theAgent, ofProject)).toBe(true);
  expect(can(user("x"), "update", { ...theProject, id: "p2" }, ofProject)).toBe(false);
  for (const parentless of [{ kind: "template" }, { kind: "user", id: "u2" }, theMachine] as const)
    expect(can(user("x"), "delete", parentless, ofProject)).toBe(false);
});

test("weak point 18: the most specific scope wins, then the priority; of equals the deny, in whatever order they came", () => {
  const hubAllow = { actions: ["update"], priority: 9 };
  const projectDeny = { ...hubAllow, scopeType: "project", scopeId: "p1", effect: "deny", priority: 0 } as const;
  const resourceAllow = { ...hubAllow, scopeType: "resource", scopeId: "p1", priority: -1 } as const;
  const decides = (...list: Partial<StoredPolicy>[]) => can(user("x"), "update", theProject, facts(list));
  expect(decides(hubAllow)).toBe(true);
  expect(decides(hubAllow, projectDeny)).toBe(false);
  expect(decides(hubAllow, projectDeny, resourceAllow)).toBe(true);
  expect(decides(projectDeny, { ...projectDeny, effect: "allow", priority: 1 })).toBe(true);
  expect(decides({ ...projectDeny, effect: "allow" }, projectDeny)).toBe(false);
  expect(decides(projectDeny, { ...projectDeny, effect: "allow" })).toBe(false);
});

test.each<[string, Partial<StoredPolicy["conditions"]>, Parameters<typeof facts>[1], boolean]>([
  ["labels that are all there", { labels: { a: "1", b: "2" } }, {}, true],
  ["a label that is not", { labels: { a: "1", c: "3" } }, {}, false],
  ["a label of another value", { labels: { a: "2" } }, {}, false],
  ["a name that objects have anyway", { labels: { constructor: "x" } }, {}, false],
  ["its time", { validFrom: "2026-01-01T00:00:00Z", validUntil: "2026-01-03T00:00:00Z" }, {}, true],
  ["before its time", { validFrom: "2026-01-03T00:00:00Z" }, {}, false],
  ["after its time", { validUntil: "2026-01-01T00:00:00Z" }, {}, false],
  ["a time that is none", { validUntil: "soon" }, {}, false],
  ["from an address", { sourceIps: ["203.0.113.7"] }, { address: "203.0.113.7" }, true],
  ["from a range", { sourceIps: ["10.0.0.0/8", "203.0.113.0/24"] }, { address: "203.0.113.99" }, true],
  ["from a range of IPv6", { sourceIps: ["2001:db8::/32"] }, { address: "2001:db8::1" }, true],
  ["from elsewhere", { sourceIps: ["10.0.0.0/8"] }, { address: "203.0.113.99" }, false],
  ["from nowhere known", { sourceIps: ["10.0.0.0/8"] }, {}, false],
  ["from what is no address", { sourceIps: ["everywhere", "10.0.0.0/99"] }, { address: "10.0.0.1" }, false],
])("weak point 18: conditions are looked at: %s", (_, conditions, more, expected) => {
  const given = facts([{ actions: ["update"], conditions }], { now: Date.parse("2026-01-02T00:00:00Z"), ...more });
  expect(can(user("x"), "update", { ...theProject, labels: { a: "1", b: "2" } }, given)).toBe(expected);
});

test("start and stop together are a restart; a deny of either denies it", () => {
  const given = (actions: string[], effect: "allow" | "deny" = "allow") =>
    facts([{ resourceType: "agent", actions, effect, priority: effect === "deny" ? 1 : 0 }]);
  expect(allowed(user("x"), theAgent, given(["start"]))).toEqual([]);
  expect(allowed(user("x"), theAgent, given(["start", "stop"]))).toEqual(["lifecycle"]);
  const both = facts([
    { resourceType: "agent", actions: ["*"] },
    { resourceType: "agent", actions: ["stop"], effect: "deny", priority: 1 },
  ]);
  expect(can(user("x"), "lifecycle", theAgent, both)).toBe(false);
  expect(can(user("x"), "start", theAgent, both)).toBe(true);
});

test("an agent reads and messages its siblings with the scopes that every agent has", () => {
  const basic = [AGENT_SCOPES.reportStatus, AGENT_SCOPES.refreshToken, AGENT_SCOPES.notify];
  expect(allowed(agent("a2", "p1", ...basic), theAgent)).toEqual(["read", "message"]);
  expect(allowed(agent("a1", "p1", ...basic), theAgent)).toEqual(["read", "message", "report", "refresh"]);
  expect(allowed(agent("a1", "p1"), theAgent)).toEqual(["read", "message"]);
  expect(allowed(agent("a2", "p1", AGENT_SCOPES.lifecycle), theAgent)).toEqual([
    "read",
    "delete",
    "lifecycle",
    "message",
    "attach",
  ]);
});

test("an agent controls what it has started, itself or through others", () => {
  const child = { ...theAgent, ancestry: ["root", "a2", "a3"] };
  expect(allowed(agent("a2", "p1"), child)).toEqual(["read", "update", "delete", "lifecycle", "message", "attach"]);
  expect(why(agent("a2", "p1"), "delete", child)).toBe("ancestor access");
  expect(allowed(agent("a2", "p2"), child)).toEqual([]);
});

test("weak point 30: an agent of another project may do nothing, whatever its scopes and policies", () => {
  const scoped = agent("a2", "p2", ...Object.values(AGENT_SCOPES));
  const everything = facts([{ actions: ["*"] }, { resourceType: "secret", actions: ["*"] }]);
  for (const resource of [theAgent, theProject, inProject("secret"), inProject("template"), inProject("group")])
    expect(allowed(scoped, resource, everything)).toEqual([]);
  expect(allowed(agent("a2", "p1", AGENT_SCOPES.createAgents), theProject)).toEqual(["read", "create"]);
});

test("weak point 15: an agent never changes people, groups, policies, machines or projects by itself", () => {
  const scoped = agent("a2", "p1", ...Object.values(AGENT_SCOPES));
  const everything = facts([{ actions: ["*"] }]);
  for (const resource of [inProject("group"), inProject("policy"), { kind: "user", id: "u" }, theMachine, hub] as const)
    for (const action of ["create", "update", "delete", "addMember"] as const)
      expect([resource.kind, action, can(scoped, action, resource, everything)]).toEqual([
        resource.kind,
        action,
        false,
      ]);
  expect(can(scoped, "update", theProject)).toBe(false);
  expect(can(scoped, "delete", theProject)).toBe(false);
});

test("an agent reads by a policy what its scopes do not give, by one of whom it acts for too", () => {
  const secret: Resource = { kind: "secret", id: "s1", ownerId: "root" };
  const given = facts([{ scopeType: "resource", scopeId: "s1", resourceType: "secret" }]);
  expect(why(agent("a2", "p1"), "read", secret, given)).toBe("policy match");
  const delegated = facts([
    {
      scopeType: "resource",
      scopeId: "s1",
      resourceType: "secret",
      conditions: { delegatedFrom: { principalType: "user", principalId: "root" } },
    },
  ]);
  expect(why(agent("a2", "p1"), "read", secret, delegated)).toBe("delegated access");
  expect(can(agent("a2", "p1"), "read", { ...secret, id: "s2" } as Resource, delegated)).toBe(false);
});

test("weak point 31: a runtime broker may do its own things, for the agents that it runs and the projects that it serves", () => {
  expect(allowed(machine("m1"), theMachine)).toEqual(["read", "rotate"]);
  expect(allowed(machine("m2"), theMachine)).toEqual(["read"]);
  expect(allowed(machine("m1"), theAgent)).toEqual(["read", "report"]);
  expect(allowed(machine("m2"), theAgent)).toEqual([]);
  expect(allowed(machine("m1"), theProject)).toEqual(["read", "message"]);
  expect(allowed(machine("m2"), theProject)).toEqual([]);
  expect(allowed(machine("m1"), hub)).toEqual([]);
  expect(allowed(machine("m1"), inProject("secret"))).toEqual([]);
});

test.each<[string, readonly string[], Action, Resource, boolean]>([
  ["reads agents with agent:list", ["agent:list"], "read", theAgent, true],
  ["reads no agents without", ["agent:message"], "read", theAgent, false],
  ["stops with agent:stop alone", ["agent:stop"], "stop", theAgent, true],
  ["starts nothing with agent:stop", ["agent:stop"], "start", theAgent, false],
  ["restarts with both alone", ["agent:start"], "lifecycle", theAgent, false],
  ["restarts with both", ["agent:start", "agent:stop"], "lifecycle", theAgent, true],
  ["messages with agent:message", ["agent:message"], "message", theAgent, true],
  ["attaches with agent:attach alone", ["agent:message", "agent:start", "agent:stop"], "attach", theAgent, false],
  ["creates with agent:create", ["agent:create"], "create", theProject, true],
  ["changes no project", ["project:read", "agent:create"], "update", theProject, false],
  ["uses runtime brokers for agents", ["agent:create"], "dispatch", theMachine, true],
  ["rotates no secret", ["agent:create"], "rotate", theMachine, false],
  ["creates no projects", ["agent:create"], "create", { kind: "hub", of: "project" }, false],
  ["changes no users", ["agent:create"], "update", { kind: "user", id: "root" }, false],
  ["reads no secrets", ["agent:read", "project:read"], "read", inProject("secret"), false],
])("weak point 17: an administrator's token %s", (_, scopes, action, resource, expected) => {
  expect(can(token(user("root", "admin"), "p1", scopes), action, resource)).toBe(expected);
  if (resource.kind === "agent" || resource.kind === "project")
    expect(can(token(user("root", "admin"), "p2", scopes), action, resource)).toBe(false);
});

test("weak points 17 and 29: a token never does more than its owner, nor by policies than its scopes", () => {
  const stranger = token(user("stranger"), "p1", ["agent:delete", "agent:create"]);
  expect(can(stranger, "delete", theAgent)).toBe(false);
  expect(can(stranger, "create", theProject)).toBe(false);
  const everything = facts([{ actions: ["*"] }]);
  expect(can(stranger, "delete", theAgent, everything)).toBe(true);
  expect(why(stranger, "message", theAgent, everything)).toBe("token does not have scope: agent:message");
  expect(why(token(user("stranger"), "p2", ["agent:delete"]), "delete", theAgent, everything)).toBe(
    "token not scoped for this project",
  );
});

test("who writes messages and reports all day needs no facts", () => {
  const runs = agent("a1", "p1", ...Object.values(AGENT_SCOPES));
  for (const action of ["read", "message", "report", "refresh", "lifecycle"] as const)
    expect(decideAtOnce(runs, action, theAgent)).toBeDefined();
  for (const id of ["owner", "root", "lead"]) expect(decideAtOnce(user(id), "message", theAgent)).toBeDefined();
  expect(decideAtOnce(user("x", "admin"), "message", theAgent)).toBeDefined();
  expect(decideAtOnce(machine("m1"), "report", theAgent)).toBeDefined();
  expect(decideAtOnce(user("x"), "message", theAgent)).toBeUndefined();
});
