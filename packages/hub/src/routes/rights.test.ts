import { expect, test } from "@jest/globals";
import { HubError, notFound } from "@rootstock/protocol";
import { NO_FACTS, type Principal, type Resource, type StoredResource } from "../auth/index.ts";
import { Hidden } from "./hidden.ts";
import { type Abilities, abilitiesOf, absent, demandOf, projectResource, readable } from "./rights.ts";
import { ADMIN, agentPrincipal, member } from "./routes.testing.ts";

const owner = member("owner");
const project = { kind: "project", id: "p1", ownerId: owner.id } as const;
const agent = {
  kind: "agent",
  id: "a1",
  projectId: "p1",
  ownerId: owner.id,
  ancestry: [owner.id],
  runtimeBrokerId: null,
} as const;
const stored = (kind: StoredResource["kind"]): StoredResource => ({ kind, id: "x", ownerId: owner.id, project });
const actions = async (who: Principal, resource: Exclude<Resource, { kind: "hub" }>) =>
  (await abilitiesOf(who)).of(resource).actions;

test.each<[Exclude<Resource, { kind: "hub" }>, string]>([
  [agent, "read update delete start stop message attach"],
  [project, "read update delete manage register"],
  [stored("template"), "read update delete"],
  [stored("harness_config"), "read update delete"],
  [stored("skill"), "read update delete"],
  [stored("policy"), "read update delete"],
  [stored("group"), "read update delete addMember removeMember"],
  [stored("user"), "read update"],
  [{ kind: "runtimeBroker", id: "m1", createdBy: owner.id, autoProvide: false }, "read update delete dispatch"],
  [stored("gcp_service_account"), "read delete verify"],
])(
  "what pages are told about $kind is the whole list, in its order, for an administrator (spec/03 5.7)",
  async (resource, all) => {
    expect(await actions(ADMIN, resource)).toEqual(all.split(" "));
    // Who people are and what they may do is told to others as something to read at most.
    const own = resource.kind === "policy" || resource.kind === "user" ? [] : all.split(" ");
    expect(await actions(owner, resource)).toEqual(own);
    const stranger = resource.kind === "runtimeBroker" ? ["read"] : [];
    expect(await actions(member("x"), resource)).toEqual(stranger);
  },
);

test.each<[Parameters<Abilities["ofList"]>[0], string]>([
  ["agent", "create list stop_all"],
  ["project", "create list"],
  ["template", "create list"],
  ["group", "create list"],
  ["policy", "create list"],
  ["runtimeBroker", "create list"],
  ["gcp_service_account", "create list mint"],
])("what pages are told about lists: %s", async (of, all) => {
  expect((await abilitiesOf(ADMIN)).ofList(of).actions).toEqual(all.split(" "));
  const viewer = { ...member("v"), role: "viewer" as const };
  expect((await abilitiesOf(viewer)).ofList(of).actions).toEqual(["list"]);
});

test("a token's limits count for what is told as well, whoever it belongs to", async () => {
  const token: Principal = {
    ...ADMIN,
    limits: { tokenId: "t", projectId: "p1", scopes: ["agent:read", "agent:stop"] },
  };
  expect(await actions(token, agent)).toEqual(["read", "stop"]);
  expect(await actions(token, project)).toEqual(["read"]);
  expect(await actions(token, { ...project, id: "p2" })).toEqual([]);
  const can = await abilitiesOf(token);
  expect(can.ofList("project").actions).toEqual(["list"]);
  expect(can.ofList("agent", project).actions).toEqual(["list", "stop_all"]);
});

test("a runtime broker that provides for everybody is offered to everybody; agents are told what their scopes give", async () => {
  const open = { kind: "runtimeBroker", id: "m1", createdBy: owner.id, autoProvide: true } as const;
  expect(await actions(member("x"), open)).toEqual(["read", "dispatch"]);
  expect(await actions(agentPrincipal("a2", "p1"), agent)).toEqual(["read", "message"]);
});

test("what is hidden is answered as what is not there, and costs the same", async () => {
  let asked = 0;
  const facts = async () => {
    asked += 1;
    return NO_FACTS;
  };
  const askers: readonly Principal[] = [
    { ...member("x"), facts },
    { ...member("v"), role: "viewer", facts },
    { ...agentPrincipal("a2", "p9"), facts },
  ];
  const row = { id: "p1", owner_id: owner.id, visibility: "private", labels: {} } as const;
  const unknown = new HubError("validation_error", "projectId: unknown project", { details: { field: "projectId" } });
  for (const asker of askers) {
    const refusalOf = async (work: () => Promise<unknown>): Promise<[HubError, boolean]> => {
      const before = asked;
      const err = await work().catch((e: unknown) => e);
      if (!(err instanceof HubError)) throw new Error("not refused");
      return [err, asked > before];
    };
    const [gone, goneAsked] = await refusalOf(() => absent(asker, "Project"));
    const [hidden, hiddenAsked] = await refusalOf(() => demandOf(asker, "update", projectResource(row), "Project"));
    expect([hidden.toBody(), hiddenAsked]).toEqual([gone.toBody(), goneAsked]);
    const [none, noneAsked] = await refusalOf(() => readable(asker, undefined, projectResource, unknown));
    const [named, namedAsked] = await refusalOf(() => readable(asker, row, projectResource, unknown));
    expect([named.toBody(), namedAsked]).toEqual([none.toBody(), noneAsked]);
    expect([hidden, named].every((err) => err instanceof Hidden)).toBe(true);
    expect(gone.toBody()).toEqual(notFound("Project").toBody());
  }
});
