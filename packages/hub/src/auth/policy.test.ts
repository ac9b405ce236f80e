import { expect, test } from "@jest/globals";
import { AGENT_SCOPES, decide, type Resource } from "./policy.ts";
import { NOBODY, type Principal } from "./principal.ts";
import type { Action } from "./vocabulary.ts";

const user = (id: string, role: "admin" | "member" | "viewer" = "member"): Principal => ({
  kind: "user",
  id,
  email: `${id}@example.org`,
  displayName: id,
  role,
});
const agent = (id: string, projectId: string, ...scopes: string[]): Principal => ({
  kind: "agent",
  id,
  projectId,
  scopes,
  ancestry: [],
});
const machine = (id: string): Principal => ({ kind: "runtimeBroker", id });
const theAgent: Resource = {
  kind: "agent",
  id: "a1",
  projectId: "p1",
  ownerId: "owner",
  ancestry: ["root", "owner"],
  runtimeBrokerId: "m1",
  projectOwnerId: "lead",
};
const theProject: Resource = { kind: "project", id: "p1", ownerId: "lead", providers: ["m1"] };
const theMachine: Resource = { kind: "runtimeBroker", id: "m1", createdBy: "maker", autoProvide: false };
const hub: Resource = { kind: "hub" };
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
const allowed = (principal: Principal, resource: Resource): Action[] =>
  ALL.filter((action) => decide(principal, action, resource).allow);

test("an admin may do everything", () => {
  for (const resource of [theAgent, theProject, theMachine, hub])
    expect(allowed(user("x", "admin"), resource)).toEqual(ALL);
});

test.each<[string, Principal]>([
  ["nobody", NOBODY],
  ["a replica", { kind: "replica", instanceId: "r" }],
  ["a collector", { kind: "scraper" }],
])("%s may do nothing", (_, principal) => {
  for (const resource of [theAgent, theProject, theMachine, hub]) expect(allowed(principal, resource)).toEqual([]);
});

test.each(["owner", "root", "lead"])("user %s may do everything with the agent", (id) => {
  expect(allowed(user(id), theAgent)).toEqual(ALL);
});

test("another user may do nothing with an agent or a private project, and read what is not private", () => {
  expect(allowed(user("x"), theAgent)).toEqual([]);
  expect(allowed(user("x"), theProject)).toEqual([]);
  expect(allowed(user("x"), { ...theProject, visibility: "team" })).toEqual(["read"]);
  expect(allowed(user("x"), hub)).toEqual(["create"]);
});

test("of a runtime broker users see it; its maker changes it; all run agents on one that provides for all", () => {
  expect(allowed(user("x"), theMachine)).toEqual(["read"]);
  expect(allowed(user("x"), { ...theMachine, autoProvide: true })).toEqual(["read", "dispatch"]);
  expect(allowed(user("maker"), theMachine)).toEqual(ALL);
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

test("an agent of another project may do nothing, whatever its scopes", () => {
  const scoped = agent("a2", "p2", ...Object.values(AGENT_SCOPES));
  expect(allowed(scoped, theAgent)).toEqual([]);
  expect(allowed(scoped, theProject)).toEqual([]);
  expect(allowed(agent("a2", "p1", AGENT_SCOPES.createAgents), theProject)).toEqual(["read", "create"]);
});

test("a runtime broker may do its own things", () => {
  expect(allowed(machine("m1"), theMachine)).toEqual(["read", "rotate"]);
  expect(allowed(machine("m2"), theMachine)).toEqual(["read"]);
  expect(allowed(machine("m1"), theAgent)).toEqual(["read", "report"]);
  expect(allowed(machine("m2"), theAgent)).toEqual([]);
  expect(allowed(machine("m1"), theProject)).toEqual(["read"]);
  expect(allowed(machine("m2"), theProject)).toEqual([]);
  expect(allowed(machine("m1"), hub)).toEqual([]);
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
  ["creates no projects", ["agent:create"], "create", hub, false],
])("weak point 17: an administrator's token %s", (_, scopes, action, resource, allowed) => {
  const limits = { tokenId: "t1", projectId: "p1", scopes };
  expect(decide({ ...user("root", "admin"), limits } as Principal, action, resource).allow).toBe(allowed);
  if (resource.kind === "agent" || resource.kind === "project") {
    const elsewhere = { ...limits, projectId: "p2" };
    expect(decide({ ...user("root", "admin"), limits: elsewhere } as Principal, action, resource).allow).toBe(false);
  }
});

test("a token never does more than its owner", () => {
  const limits = { tokenId: "t1", projectId: "p1", scopes: ["agent:delete", "agent:create"] };
  const stranger = { ...user("stranger"), limits } as Principal;
  expect(decide(stranger, "delete", theAgent).allow).toBe(false);
  expect(decide(stranger, "create", theProject).allow).toBe(false);
});
