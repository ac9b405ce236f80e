import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  ADMIN,
  at,
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
let project: string;
let agent: string;
beforeAll(async () => {
  hub = await startTestHub();
  project = await makeProject(hub, ADMIN, "watched", { visibility: "team" });
  agent = await makeAgent(hub, project, "a1", await makeRuntimeBroker(hub, "devbox"));
});
afterAll(() => hub.stop());

const PATH = "/api/v1/notifications/subscriptions";
const triggerActivities = ["COMPLETED", "WAITING_FOR_INPUT"];
const subscribe = (body: object, by = ADMIN) => hub.as(by).send("POST", PATH, body);

test("a subscription is created once, listed with the agent's slug, changed and deleted", async () => {
  const body = { scope: "agent", agentId: agent, projectId: project, groveId: project, triggerActivities };
  const made = await subscribe(body);
  expect(made.status).toBe(201);
  const id = textAt(made.body, "id");
  expect(made.body).toEqual({
    id,
    scope: "agent",
    agentId: agent,
    subscriberType: "user",
    subscriberId: ADMIN.id,
    projectId: project,
    groveId: project,
    triggerActivities,
    createdAt: expect.stringMatching(/Z$/),
    createdBy: ADMIN.id,
  });
  for (const again of await Promise.all([subscribe(body), subscribe(body)])) {
    expect(again.status).toBe(200);
    expect(again.body).toEqual(made.body);
  }
  const wider = await subscribe({ ...body, triggerActivities: ["X", "COMPLETED"] });
  expect([wider.status, wider.body]).toEqual([
    200,
    { ...(made.body as object), triggerActivities: [...triggerActivities, "X"] },
  ]);
  const listed = await hub.as(ADMIN).get(`${PATH}?projectId=${project}&groveId=${project}`);
  expect(listed.body).toEqual([{ ...(wider.body as object), agentSlug: "a1" }]);
  const changed = await hub.as(ADMIN).send("PATCH", `${PATH}/${id}`, { triggerActivities: ["DELETED"] });
  expect(at(changed.body, "triggerActivities")).toEqual(["DELETED"]);
  expect((await hub.as(member("eve")).send("DELETE", `${PATH}/${id}`)).status).toBe(403);
  expect((await hub.as(ADMIN).send("DELETE", `${PATH}/${id}`)).status).toBe(204);
  expect((await hub.as(ADMIN).send("DELETE", `${PATH}/${id}`)).status).toBe(404);
  expect((await hub.as(ADMIN).get(PATH)).body).toEqual([]);
});

test("filters narrow the caller's own", async () => {
  const bob = member("bob");
  await subscribe({ scope: "project", projectId: project, triggerActivities }, bob);
  const of = async (query: string) => listAt((await hub.as(bob).get(`${PATH}?${query}`)).body);
  expect(await of("scope=project")).toHaveLength(1);
  expect(await of("scope=agent")).toHaveLength(0);
  expect(await of(`agentId=${agent}`)).toHaveLength(0);
  expect((await hub.as(bob).get(`${PATH}?agentId=x`)).status).toBe(400);
});

test("what cannot be subscribed to is refused", async () => {
  const elsewhere = await makeProject(hub, ADMIN, "elsewhere");
  const bob = member("bob2");
  for (const bad of [
    {},
    { scope: "hub", projectId: project, triggerActivities },
    { scope: "agent", projectId: project, triggerActivities },
    { scope: "project", agentId: agent, projectId: project, triggerActivities },
    { scope: "project", projectId: project, triggerActivities: [] },
    { scope: "agent", agentId: agent, projectId: elsewhere, triggerActivities },
    { scope: "agent", agentId: "a1", projectId: project, triggerActivities },
    { scope: "project", projectId: "watched", triggerActivities },
  ])
    expect((await subscribe(bad)).status).toBe(400);
  expect((await subscribe({ scope: "project", projectId: elsewhere, triggerActivities }, bob)).status).toBe(400);
  expect((await subscribe({ scope: "agent", agentId: agent, projectId: project, triggerActivities }, bob)).status).toBe(
    400,
  );
});

test("there are no notifications yet: empty in the shapes that clients read", async () => {
  const admin = hub.as(ADMIN);
  expect((await admin.get("/api/v1/notifications")).body).toEqual([]);
  expect((await admin.get(`/api/v1/notifications?agentId=${agent}`)).body).toEqual({
    userNotifications: [],
    agentNotifications: [],
  });
  expect((await admin.send("POST", "/api/v1/notifications/ack-all")).body).toEqual({ status: "ok" });
  expect((await admin.send("POST", `/api/v1/notifications/${agent}/ack`)).status).toBe(404);
});
