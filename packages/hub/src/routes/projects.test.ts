import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { deleteProject, ensureUser, transaction } from "@rootstock/store";
import { eventually } from "@rootstock/testkit";
import { NOBODY } from "../auth/index.ts";
import {
  ADMIN,
  agentPrincipal,
  at,
  fieldOf,
  listAt,
  makeAgent,
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
  await ensureUser(hub.database.db, ADMIN);
});
afterAll(() => hub.stop());

const admin = () => hub.as(ADMIN);
const REMOTE = "git.example.org/o/smoke";
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

test("a created project has the fields and types that older and today's clients read", async () => {
  const runtimeBrokerId = await makeRuntimeBroker(hub, "auto-one", { autoProvide: true });
  const created = await admin().send("POST", "/api/v1/projects", {
    slug: "smoke",
    name: "smoke",
    gitRemote: "https://user@git.example.org/o/Smoke.git",
    labels: { "scion.dev/default-branch": "main" },
  });
  expect(created.status).toBe(201);
  expect(created.body).toMatchObject({
    name: "smoke",
    slug: "smoke",
    gitRemote: REMOTE,
    defaultRuntimeBrokerId: runtimeBrokerId,
    labels: { "scion.dev/default-branch": "main" },
    created: expect.stringMatching(ISO),
    updated: expect.stringMatching(ISO),
    createdBy: ADMIN.id,
    ownerId: ADMIN.id,
    visibility: "private",
    groveName: "smoke",
    grove: "smoke",
  });
  const id = textAt(created.body, "id");
  expect(at(created.body, "groveId")).toBe(id);

  const listed = await admin().get(`/api/v1/projects?gitRemote=${encodeURIComponent(`ssh://git@${REMOTE}.git`)}`);
  expect(listed.body).toMatchObject({
    totalCount: 1,
    _capabilities: { actions: ["create", "list"] },
    projects: [
      {
        id,
        activeBrokerCount: 1,
        projectType: "hub-managed",
        ownerName: "Development User",
        _capabilities: { actions: ["read", "update", "delete", "manage", "register"] },
      },
    ],
  });
  expect(at(listed.body, "groves")).toEqual(at(listed.body, "projects"));
  expect(listed.body).not.toHaveProperty("nextCursor");
  expect(at(listed.body, "projects", 0)).not.toHaveProperty("agentCount");
});

test("an empty list has no groves and counts zero", async () => {
  const listed = await admin().get("/api/v1/projects?name=nobody-has-this");
  expect(listed.body).toEqual({
    projects: [],
    totalCount: 0,
    feedCursor: "cursor",
    _capabilities: { actions: ["create", "list"] },
  });
});

test("name and slug filters ignore case; the twin below /groves agrees and says that it is deprecated", async () => {
  const id = await makeProject(hub, ADMIN, "Filter Me");
  for (const query of ["name=FILTER%20me", "slug=Filter-Me"])
    expect(at((await admin().get(`/api/v1/projects?${query}`)).body, "projects", 0, "id")).toBe(id);
  const twin = await admin().get("/api/v1/groves?slug=filter-me");
  expect(at(twin.body, "projects", 0, "id")).toBe(id);
  expect(twin.headers.get("deprecation")).toBe("true");
});

test("a taken slug gets a number, the name too; many creates at once all get their own", async () => {
  const made = await Promise.all(
    Array.from({ length: 8 }, () => admin().send("POST", "/api/v1/projects", { name: "Same Name" })),
  );
  expect(made.map((m) => m.status)).toEqual(Array(8).fill(201));
  const slugs = made.map((m) => textAt(m.body, "slug")).sort();
  expect(slugs).toEqual(["same-name", ...Array.from({ length: 7 }, (_, i) => `same-name-${i + 1}`)]);
  const second = made.find((m) => at(m.body, "slug") === "same-name-1");
  expect(at(second?.body, "name")).toBe("Same Name (1)");
});

test("a known id answers the project that has it; another's is a conflict without a word about it", async () => {
  const id = "0e0e0e0e-0000-4000-8000-000000000001";
  expect((await admin().send("POST", "/api/v1/projects", { name: "first", id })).status).toBe(201);
  const again = await admin().send("POST", "/api/v1/projects", { name: "second", id: id.toUpperCase() });
  expect(again.status).toBe(200);
  expect(at(again.body, "name")).toBe("first");
  const foreign = await hub.as(member("eve")).send("POST", "/api/v1/projects", { name: "mine", id });
  expect(foreign.status).toBe(409);
  expect(JSON.stringify(foreign.body)).not.toContain("first");
});

test("the same id sent many times at once makes one project", async () => {
  const id = "0e0e0e0e-0000-4000-8000-000000000002";
  const made = await Promise.all(
    Array.from({ length: 6 }, () => admin().send("POST", "/api/v1/projects", { name: "once", id })),
  );
  expect(made.map((m) => m.status).sort()).toEqual([200, 200, 200, 200, 200, 201]);
  expect(at((await admin().get("/api/v1/projects?name=once")).body, "totalCount")).toBe(1);
});

test.each([
  [{}, "name"],
  [{ name: "" }, "name"],
  [{ name: 7 }, "name"],
  [{ name: "!!!" }, "name"],
  [{ name: "x", id: "not-a-uuid" }, "id"],
  [{ name: "x", labels: { a: 1 } }, "labels.a"],
  [{ name: "x", visibility: "secret" }, "visibility"],
  [{ name: "a\u0000b" }, "name"],
  [{ name: "half \ud800" }, "name"],
])("a bad create %j is refused and names the field", async (body, field) => {
  const refused = await admin().send("POST", "/api/v1/projects", body);
  expect(refused.status).toBe(400);
  expect(fieldOf(refused.body)).toBe(field);
});

test("what needs parts that are not there is refused, nothing half-made", async () => {
  const secret = await admin().send("POST", "/api/v1/projects", { name: "with token", githubToken: "ghp_x" });
  expect([secret.status, fieldOf(secret.body)]).toEqual([422, "githubToken"]);
  const shared = await admin().send("POST", "/api/v1/projects", {
    name: "with clone",
    gitRemote: "git.example.org/o/clone",
    workspaceMode: "shared",
  });
  expect([shared.status, fieldOf(shared.body)]).toEqual([422, "workspaceMode"]);
  for (const name of ["with%20token", "with%20clone"])
    expect(at((await admin().get(`/api/v1/projects?name=${name}`)).body, "totalCount")).toBe(0);
});

test("GET takes the id with the slug behind it; what is malformed or unknown is 404", async () => {
  const id = await makeProject(hub, ADMIN, "readable");
  for (const path of [id, `${id}__readable`, id.toUpperCase()]) {
    const got = await admin().get(`/api/v1/projects/${path}`);
    expect(at(got.body, "id")).toBe(id);
  }
  for (const path of ["readable", "a%00b", "0e0e0e0e-0000-4000-8000-00000000dead"])
    expect((await admin().get(`/api/v1/projects/${path}`)).status).toBe(404);
});

test("a create repeated with its Idempotency-Key is one project and one answer, also when sent twice at once", async () => {
  const create = (key: string, name = "keyed") =>
    admin().send("POST", "/api/v1/projects", { name }, { "idempotency-key": key });
  const [one, two] = await Promise.all([create("k-1"), create("k-1")]);
  expect([one.status, two.status]).toEqual([201, 201]);
  expect((await create("k-1")).body).toEqual(one.body);
  expect(two.body).toEqual(one.body);
  expect((await create("k-1", "another name")).status).toBe(422);
  expect(at((await admin().get("/api/v1/projects?name=keyed")).body, "totalCount")).toBe(1);
  expect((await create("k-2", "!!!")).status).toBe(400);
  expect((await create("k-2", "keyed later")).status).toBe(201);
});

test("paging: every project once, in order, over cursors and over plain last ids", async () => {
  const owner = member("pager");
  for (let i = 0; i < 5; i += 1) await makeProject(hub, owner, `page-${i}`);
  const whole = listAt((await hub.as(owner).get("/api/v1/projects?scope=mine")).body, "projects");
  const expected = whole.map((p) => textAt(p, "name"));
  expect(new Set(expected)).toEqual(new Set(["page-4", "page-3", "page-2", "page-1", "page-0"]));
  for (const plainIds of [false, true]) {
    const seen: string[] = [];
    let cursor = "";
    do {
      const page = await hub.as(owner).get(`/api/v1/projects?scope=mine&limit=2${cursor && `&cursor=${cursor}`}`);
      expect(at(page.body, "totalCount")).toBe(5);
      const rows = listAt(page.body, "projects");
      seen.push(...rows.map((r) => textAt(r, "name")));
      const more = at({ nextCursor: "", ...(page.body as object) }, "nextCursor") !== "";
      cursor = !more ? "" : plainIds ? textAt(rows.at(-1), "id") : textAt(page.body, "nextCursor");
    } while (cursor !== "");
    expect(seen).toEqual(expected);
  }
});

test("a cursor that is damaged, of another query, or names a row that the caller may not see is invalid_cursor", async () => {
  const owner = member("cursors");
  for (const name of ["c-one", "c-two", "c-three"]) await makeProject(hub, owner, name);
  const foreign = await makeProject(hub, ADMIN, "not for cursors");
  const cursor = textAt((await hub.as(owner).get("/api/v1/projects?limit=1")).body, "nextCursor");
  expect((await hub.as(owner).get(`/api/v1/projects?cursor=${cursor}`)).status).toBe(200);
  for (const query of [`cursor=${cursor}&visibility=private`, "cursor=%25%25", "cursor=e30", `cursor=${foreign}`]) {
    const refused = await hub.as(owner).get(`/api/v1/projects?${query}`);
    expect(refused.status).toBe(400);
    expect(at(refused.body, "error", "code")).toBe("invalid_cursor");
  }
});

test("who may read what: owners and what is not private, for users; its own, for an agent; what it serves, for a machine", async () => {
  const alice = member("alice");
  const bob = member("bob");
  const mine = await makeProject(hub, alice, "alice private");
  const open = await makeProject(hub, alice, "alice open", { visibility: "team" });
  const machine = await makeRuntimeBroker(hub, "machine-reads");
  await hub.as(ADMIN).send("POST", `/api/v1/projects/${mine}/providers`, { brokerId: machine });

  const names = async (by: Parameters<TestHub["as"]>[0]) =>
    listAt((await hub.as(by).get("/api/v1/projects")).body, "projects").map((p) => textAt(p, "name"));
  expect(await names(bob)).toEqual(["alice open"]);
  expect(await names(agentPrincipal(machine, mine))).toEqual(["alice private"]);
  expect(await names({ kind: "runtimeBroker", id: machine })).toEqual(["alice private"]);

  expect((await hub.as(bob).get(`/api/v1/projects/${mine}`)).status).toBe(404);
  expect((await hub.as(bob).get(`/api/v1/projects/${open}`)).status).toBe(200);
  expect((await hub.as(bob).send("PATCH", `/api/v1/projects/${open}`, { name: "taken over" })).status).toBe(403);
  expect((await hub.as(bob).send("DELETE", `/api/v1/projects/${open}`)).status).toBe(403);
  expect((await hub.as(bob).send("DELETE", `/api/v1/projects/${mine}`)).status).toBe(404);
  expect((await hub.as(agentPrincipal(machine, mine)).get(`/api/v1/projects/${open}`)).status).toBe(404);
  expect((await hub.as(agentPrincipal(machine, mine)).send("DELETE", `/api/v1/projects/${mine}`)).status).toBe(403);
  expect((await hub.as(agentPrincipal(machine, mine)).send("POST", "/api/v1/projects", { name: "x" })).status).toBe(
    403,
  );
  expect((await hub.as({ kind: "runtimeBroker", id: machine }).get(`/api/v1/projects/${open}`)).status).toBe(404);
  expect((await hub.as(NOBODY).get(`/api/v1/projects/${open}`)).status).toBe(401);
});

test("the id of a project that is gone is its owner's: nobody else gets what is kept about it by making another one", async () => {
  const [cleo, dirk] = [member("cleo"), member("dirk")];
  const id = await makeProject(hub, cleo, "short lived");
  const make = (by: Parameters<TestHub["as"]>[0], path = "", name = "again") =>
    hub.as(by).send("POST", `/api/v1/projects${path}`, { name, id });
  const told = async (path?: string) => {
    const { status, body } = await make(dirk, path);
    return [status, at(body, "error", "message")];
  };
  const hidden = [409, "this id belongs to another project"];
  expect([await told(), await told("/register")]).toEqual([hidden, hidden]);
  expect((await hub.as(cleo).send("DELETE", `/api/v1/projects/${id}`)).status).toBe(204);
  expect([await told(), await told("/register")]).toEqual([hidden, hidden]);
  expect((await hub.as(dirk).get(`/api/v1/projects/${id}/audit`)).status).toBe(404);
  expect((await make(cleo)).status).toBe(201);
  expect((await hub.as(cleo).send("DELETE", `/api/v1/projects/${id}`)).status).toBe(204);
  expect((await make(cleo, "/register")).status).toBe(200);
});

test("the slug of a project that is gone or was renamed is its owner's: nobody else is led to its files on a machine", async () => {
  const [bob, eve] = [member("slug-bob"), member("slug-eve")];
  const slugOf = async (by: typeof bob, name: string) => {
    const made = await hub.as(by).send("POST", "/api/v1/projects", { name });
    return { id: textAt(made.body, "id"), slug: textAt(made.body, "slug") };
  };
  const gone = await slugOf(bob, "left behind");
  expect((await hub.as(bob).send("DELETE", `/api/v1/projects/${gone.id}`)).status).toBe(204);
  const renamed = await slugOf(bob, "renamed away");
  const path = `/api/v1/projects/${renamed.id}`;
  expect((await hub.as(bob).send("PATCH", path, { slug: "somewhere-else" })).status).toBe(200);
  const hers = await slugOf(eve, "left behind");
  expect(hers.slug).toBe("left-behind-1");
  expect((await slugOf(eve, "renamed away")).slug).toBe("renamed-away-1");
  for (const slug of ["left-behind", "renamed-away"]) {
    const refused = await hub.as(eve).send("PATCH", `/api/v1/projects/${hers.id}`, { slug });
    expect([slug, refused.status, at(refused.body, "error", "details")]).toEqual([slug, 409, { field: "slug" }]);
  }
  expect((await slugOf(bob, "left behind")).slug).toBe("left-behind");
  expect((await hub.as(bob).send("PATCH", path, { slug: "renamed-away" })).status).toBe(200);
});

test("a slug is nobody else's either in the moment in which its project goes, or when it was cut short for its number", async () => {
  const [bob, eve] = [member("moment-bob"), member("moment-eve")];
  const made = async (by: typeof bob, name: string) => {
    const { body } = await hub.as(by).send("POST", "/api/v1/projects", { name });
    return { id: textAt(body, "id"), slug: textAt(body, "slug") };
  };
  const [his, hers] = [await made(bob, "going away"), await made(eve, "waits for it")];
  const blocked = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  let asked: ReturnType<ReturnType<TestHub["as"]>["send"]> | undefined;
  await transaction(hub.database.db, async (tx) => {
    await deleteProject(tx, his.id);
    asked = hub.as(eve).send("PATCH", `/api/v1/projects/${hers.id}`, { slug: his.slug });
    await eventually(async () => (await hub.test.query(blocked)).length > 0);
  });
  const refused = await asked;
  expect([refused?.status, at(refused?.body, "error", "details")]).toEqual([409, { field: "slug" }]);
  expect(at((await hub.as(eve).get(`/api/v1/projects/${hers.id}`)).body, "slug")).toBe("waits-for-it");

  const long = "l".repeat(61);
  const numbered = await made(bob, `${long}-1`);
  expect((await hub.as(bob).send("DELETE", `/api/v1/projects/${numbered.id}`)).status).toBe(204);
  const slugs = [await made(eve, `${long}xx`), await made(eve, `${long}xx`)].map(({ slug }) => slug);
  expect(slugs).toEqual([`${long}xx`, `${long}-2`]);
});

test("PATCH changes what is given and nothing else; a slug that is taken is 409; annotations do not wipe settings", async () => {
  const id = await makeProject(hub, ADMIN, "patch me", { labels: { a: "1" } });
  await makeProject(hub, ADMIN, "occupied");
  const path = `/api/v1/projects/${id}`;
  await admin().send("PUT", `${path}/settings`, { defaultTemplate: "t1" });
  const patched = await admin().send("PATCH", path, {
    slug: "New Slug",
    visibility: "public",
    name: "",
    annotations: { note: "x" },
  });
  expect(patched.status).toBe(200);
  expect(patched.body).toMatchObject({ name: "patch me", slug: "new-slug", visibility: "public", labels: { a: "1" } });
  expect(at(patched.body, "annotations")).toEqual({ note: "x", "scion.io/default-template": "t1" });
  expect((await admin().send("PATCH", path, { slug: "occupied" })).status).toBe(409);
  expect(at((await admin().get(path)).body, "slug")).toBe("new-slug");
});

test("only a runtime broker that serves the project becomes its default", async () => {
  const id = await makeProject(hub, ADMIN, "defaults");
  const path = `/api/v1/projects/${id}`;
  const serving = await makeRuntimeBroker(hub, "serving");
  const stranger = await makeRuntimeBroker(hub, "stranger");
  await admin().send("POST", `${path}/providers`, { brokerId: serving });
  for (const bad of [stranger, "0e0e0e0e-0000-4000-8000-00000000dead", "nonsense"]) {
    const refused = await admin().send("PATCH", path, { defaultRuntimeBrokerId: bad });
    expect(refused.status).toBe(400);
    expect(fieldOf(refused.body)).toBe("defaultRuntimeBrokerId");
  }
  const patched = await admin().send("PATCH", path, { defaultRuntimeBrokerId: serving });
  expect(at(patched.body, "defaultRuntimeBrokerId")).toBe(serving);
});

test("DELETE ends the agents first, then everything goes in one transaction", async () => {
  const id = await makeProject(hub, ADMIN, "to delete");
  const machine = await makeRuntimeBroker(hub, "machine-deletes");
  await makeAgent(hub, id, "a1", machine);
  const gone = await admin().send("DELETE", `/api/v1/projects/${id}`);
  expect(gone.status).toBe(204);
  expect(hub.calls).toContain(`deleteAgents ${id}`);
  for (const table of ["agents", "project_providers"])
    expect(await hub.test.query(`select 1 from ${table} where project_id = $1`, [id])).toEqual([]);
  expect((await admin().send("DELETE", `/api/v1/projects/${id}`)).status).toBe(404);
});

test("counts: live agents only, and online runtime brokers that serve it", async () => {
  const id = await makeProject(hub, ADMIN, "counted");
  const online = await makeRuntimeBroker(hub, "counted-online");
  const offline = await makeRuntimeBroker(hub, "counted-offline", { online: false });
  await makeAgent(hub, id, "one", online);
  await makeAgent(hub, id, "two", offline);
  const deleted = await makeAgent(hub, id, "three", offline);
  await hub.test.query("update agents set deleted_at = now() where id = $1", [deleted]);
  const got = await admin().get(`/api/v1/projects/${id}`);
  // One serves every project.
  expect(got.body).toMatchObject({ agentCount: 2, activeBrokerCount: 2, projectType: "hub-managed" });
  await admin().send("POST", `/api/v1/projects/${id}/providers`, { brokerId: online, localPath: "/home/u/p/.scion" });
  expect(at((await admin().get(`/api/v1/projects/${id}`)).body, "projectType")).toBe("linked");
});
