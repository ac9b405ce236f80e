import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  ADMIN,
  agentPrincipal,
  at,
  listAt,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

let hub: TestHub;
beforeAll(async () => {
  hub = await startTestHub();
});
afterAll(() => hub.stop());

const admin = () => hub.as(ADMIN);
const register = (body: object, by = ADMIN) => hub.as(by).send("POST", "/api/v1/projects/register", body);
const NOBODY_HAS = "0e0e0e0e-0000-4000-8000-00000000dead";

test("register creates a project once; the same remote again, written otherwise, finds it", async () => {
  const first = await register({ name: "reg", gitRemote: "https://git.example.org/o/reg.git", path: "/home/u/reg" });
  expect(first.status).toBe(200);
  expect(first.body).toMatchObject({ created: true, project: { slug: "reg", gitRemote: "git.example.org/o/reg" } });
  expect(at(first.body, "grove")).toEqual(at(first.body, "project"));
  expect(first.body).not.toHaveProperty("broker");
  const again = await register({ name: "other name", gitRemote: "git@git.example.org:o/reg" });
  expect(at(again.body, "created")).toBe(false);
  expect(at(again.body, "project", "id")).toBe(at(first.body, "project", "id"));
});

test("many machines registering one remote at once make one project", async () => {
  const all = await Promise.all(
    Array.from({ length: 8 }, () => register({ name: "race", gitRemote: "git.example.org/o/race" })),
  );
  expect(new Set(all.map((r) => textAt(r.body, "project", "id"))).size).toBe(1);
  expect(all.filter((r) => at(r.body, "created") === true)).toHaveLength(1);
});

test("the id counts before the remote and is kept on create; older words for it are read", async () => {
  const id = "0e0e0e0e-0000-4000-8000-000000000011";
  const made = await register({ groveId: id, name: "by id", gitRemote: "" });
  expect(made.body).toMatchObject({ created: true, project: { id } });
  const again = await register({ id, name: "other", gitRemote: "git.example.org/o/reg" });
  expect(again.body).toMatchObject({ created: false, project: { id, name: "by id" } });
});

test("without a remote the slug finds it; several projects of one remote are told, and a new one is made", async () => {
  const made = await register({ name: "Global", gitRemote: "" });
  const again = await register({ name: "global", gitRemote: "" });
  expect(at(again.body, "project", "id")).toBe(at(made.body, "project", "id"));

  const remote = "git.example.org/o/twice";
  const a = await makeProject(hub, ADMIN, "twice", { gitRemote: remote });
  const b = await makeProject(hub, ADMIN, "twice", { gitRemote: remote });
  const third = await register({ name: "twice", gitRemote: remote });
  expect(third.body).toMatchObject({ created: true, project: { slug: "twice-2" } });
  expect(listAt(third.body, "matches").map((m) => textAt(m, "id"))).toEqual([a, b]);
});

test("registering somebody else's project makes nobody an owner and shows nothing of it", async () => {
  const remote = "git.example.org/o/private";
  const id = await makeProject(hub, ADMIN, "private one", { gitRemote: remote });
  const eve = member("eve");
  expect((await register({ id, name: "x", gitRemote: remote }, eve)).status).toBe(409);
  const own = await register({ name: "private one", gitRemote: remote }, eve);
  expect(own.body).toMatchObject({ created: true, project: { ownerId: eve.id, slug: "private-one-1" } });
  expect(own.body).not.toHaveProperty("matches");
  const open = await makeProject(hub, ADMIN, "open one", { visibility: "team" });
  const found = await register({ id: open, name: "x", gitRemote: "" }, eve);
  expect(found.body).toMatchObject({ created: false, project: { ownerId: ADMIN.id } });
  expect((await hub.as(eve).send("PATCH", `/api/v1/projects/${open}`, { name: "taken" })).status).toBe(403);
});

test("brokerId links the machine, makes it the default, keeps a stored folder, and answers no secret", async () => {
  const id = await makeProject(hub, ADMIN, "provided");
  const machine = await makeRuntimeBroker(hub, "devbox");
  const linked = await register({ id, name: "provided", gitRemote: "", path: "/home/u/.scion", brokerId: machine });
  expect(linked.body).toMatchObject({
    created: false,
    project: { defaultRuntimeBrokerId: machine },
    broker: {
      id: machine,
      name: "devbox",
      version: "",
      status: "online",
      connectionState: "disconnected",
      lastHeartbeat: "0001-01-01T00:00:00Z",
    },
  });
  expect(Object.keys(linked.body as object)).not.toEqual(expect.arrayContaining(["secretKey"]));
  expect(Object.keys(linked.body as object)).not.toEqual(expect.arrayContaining(["brokerToken"]));
  await register({ id, name: "provided", gitRemote: "", path: "/somewhere/else", brokerId: machine });
  const providers = await admin().get(`/api/v1/projects/${id}/providers`);
  expect(listAt(providers.body, "providers")).toEqual([
    {
      projectId: id,
      groveId: id,
      brokerId: machine,
      brokerName: "devbox",
      status: "online",
      lastSeen: "0001-01-01T00:00:00Z",
      localPath: "/home/u/.scion",
      linkedBy: ADMIN.id,
      linkedAt: expect.any(String),
    },
  ]);
  for (const brokerId of [NOBODY_HAS, "nonsense"]) {
    const refused = await register({ id, name: "provided", gitRemote: "", brokerId });
    expect(refused.status).toBe(400);
    expect(at(refused.body, "error", "details")).toEqual({ field: "brokerId", brokerId });
  }
});

test("the older broker block links a machine that is the caller's, and is ignored otherwise", async () => {
  const eve = member("eve2");
  const hers = await makeRuntimeBroker(hub, "eves-laptop", { createdBy: eve.id });
  await makeRuntimeBroker(hub, "victim");
  const unknown = await register({ name: "b1", gitRemote: "", broker: { id: "", name: "no-machine" } }, eve);
  expect(unknown.body).toMatchObject({ created: true });
  expect(unknown.body).not.toHaveProperty("broker");
  const foreign = await register({ name: "b2", gitRemote: "", broker: { name: "victim" } }, eve);
  expect(foreign.status).toBe(200);
  expect(foreign.body).not.toHaveProperty("broker");
  const own = await register({ name: "b3", gitRemote: "", broker: { id: hers, name: "renamed" } }, eve);
  expect(own.body).toMatchObject({
    broker: { id: hers, name: "eves-laptop" },
    project: { defaultRuntimeBrokerId: hers },
  });
});

test("who links and unlinks: owner of the machine, owner of the project, nobody else", async () => {
  const alice = member("alice");
  const bob = member("bob");
  const id = await makeProject(hub, alice, "alices", { visibility: "team" });
  const path = `/api/v1/projects/${id}/providers`;
  const bobs = await makeRuntimeBroker(hub, "bobs-machine", { createdBy: bob.id });
  const others = await makeRuntimeBroker(hub, "others-machine");
  const forAll = await makeRuntimeBroker(hub, "for-all", { autoProvide: true });

  expect((await hub.as(alice).send("POST", path, { brokerId: others })).status).toBe(403);
  expect((await hub.as(bob).send("POST", path, { brokerId: forAll })).status).toBe(403);
  expect((await hub.as(agentPrincipal(bobs, id)).send("POST", path, { brokerId: bobs })).status).toBe(403);
  expect((await hub.as({ kind: "runtimeBroker", id: others }).send("POST", path, { brokerId: others })).status).toBe(
    404,
  );
  expect((await hub.as(alice).send("POST", path, { brokerId: forAll })).status).toBe(201);
  // A folder of somebody else's machine: any other project's, or any secret that lies there.
  for (const localPath of ["/etc", "/var/lib/rootstock/projects/bobs/workspace"])
    expect((await hub.as(alice).send("POST", path, { brokerId: forAll, localPath })).status).toBe(403);
  const registered = await register({ name: "with-a-folder", gitRemote: "", brokerId: forAll, path: "/etc" }, alice);
  expect(at(registered.body, "broker", "id")).toBe(forAll);
  expect(
    await hub.test.query("select 1 from project_providers where local_path is not null and runtime_broker_id = $1", [
      forAll,
    ]),
  ).toEqual([]);
  // Who may merely read the project would be handed its agents.
  expect((await hub.as(bob).send("POST", path, { brokerId: bobs })).status).toBe(403);
  const hers = await makeRuntimeBroker(hub, "alices-machine", { createdBy: alice.id });
  const linked = await hub.as(alice).send("POST", path, { brokerId: hers, localPath: "/home/alice/x" });
  expect(linked.status).toBe(201);
  expect(at(linked.body, "provider", "localPath")).toBe("/home/alice/x");
  const moved = await hub.as(alice).send("POST", path, { brokerId: hers, localPath: "/home/alice/y" });
  expect(at(moved.body, "provider", "localPath")).toBe("/home/alice/y");

  expect((await hub.as(bob).send("DELETE", `${path}/${forAll}`)).status).toBe(403);
  await hub.test.query("insert into project_providers (project_id, runtime_broker_id) values ($1, $2)", [id, bobs]);
  expect((await hub.as(alice).send("DELETE", `${path}/${bobs}`)).status).toBe(204);
  expect((await hub.as(alice).send("DELETE", `${path}/${bobs}`)).status).toBe(404);
  expect((await hub.as(alice).send("DELETE", `${path}/nonsense`)).status).toBe(404);
  expect((await hub.as(alice).send("POST", path, { brokerId: NOBODY_HAS })).status).toBe(400);
});

test("unlinking the default leaves the project without one", async () => {
  const id = await makeProject(hub, ADMIN, "losing default");
  const machine = await makeRuntimeBroker(hub, "leaving");
  await admin().send("PATCH", `/api/v1/projects/${id}`, {});
  await hub.test.query("update projects set default_runtime_broker_id = null where id = $1", [id]);
  await admin().send("POST", `/api/v1/projects/${id}/providers`, { brokerId: machine });
  expect(at((await admin().get(`/api/v1/projects/${id}`)).body, "defaultRuntimeBrokerId")).toBe(machine);
  await admin().send("DELETE", `/api/v1/projects/${id}/providers/${machine}`);
  expect((await admin().get(`/api/v1/projects/${id}`)).body).not.toHaveProperty("defaultRuntimeBrokerId");
});

test("settings: PUT replaces all, GET gives back what was put, other annotations stay", async () => {
  const id = await makeProject(hub, ADMIN, "settings");
  const path = `/api/v1/projects/${id}/settings`;
  await admin().send("PATCH", `/api/v1/projects/${id}`, { annotations: { note: "x" } });
  expect((await admin().get(path)).body).toEqual({});
  const settings = {
    activeProfile: "remote",
    defaultTemplate: "t",
    defaultHarnessConfig: "gemini",
    telemetryEnabled: false,
    defaultMaxTurns: 7,
    defaultMaxModelCalls: 8,
    defaultMaxDuration: "1h",
    defaultResources: { requests: { cpu: "1" }, limits: { memory: "2Gi" }, disk: "10Gi" },
    defaultGCPIdentityMode: "block",
    defaultGCPIdentityServiceAccountID: "sa",
  };
  const put = await admin().send("PUT", path, { ...settings, bucket: { dropped: true } });
  expect(put.body).toEqual(settings);
  expect((await admin().get(path)).body).toEqual(settings);
  expect((await admin().send("PUT", path, { defaultTemplate: "only" })).body).toEqual({ defaultTemplate: "only" });
  expect(at((await admin().get(`/api/v1/projects/${id}`)).body, "annotations", "note")).toBe("x");
  expect((await hub.as(agentPrincipal(NOBODY_HAS, id)).get(path)).status).toBe(200);
  expect((await hub.as(agentPrincipal(NOBODY_HAS, id)).send("PUT", path, {})).status).toBe(403);
  expect((await hub.as(member("x")).get(path)).status).toBe(404);
  expect((await admin().send("PUT", path, { defaultMaxTurns: "many" })).status).toBe(400);
});

test("shared directories: added once, listed, removed; names are slugs", async () => {
  const id = await makeProject(hub, ADMIN, "dirs");
  const path = `/api/v1/projects/${id}/shared-dirs`;
  const added = await admin().send("POST", path, { name: "build-cache", read_only: true, in_workspace: false });
  expect(added.status).toBe(201);
  expect(added.body).toEqual({ name: "build-cache", read_only: true });
  for (const name of ["build-cache", "Upper", "-x", "x-", ""])
    expect((await admin().send("POST", path, { name })).status).toBe(400);
  const all = await Promise.all(Array.from({ length: 5 }, (_, i) => admin().send("POST", path, { name: `d${i}` })));
  expect(all.map((a) => a.status)).toEqual(Array(5).fill(201));
  expect(listAt((await admin().get(path)).body, "sharedDirs")).toHaveLength(6);
  expect((await admin().send("DELETE", `${path}/d3`)).status).toBe(204);
  expect((await admin().send("DELETE", `${path}/d3`)).status).toBe(404);
  expect(listAt((await admin().get(path)).body, "sharedDirs")).toHaveLength(5);
});
