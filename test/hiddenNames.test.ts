import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { type ApiReply, api, eventually, type InProcessReplica, Scene, testLogin } from "@rootstock/testkit";

/**
 * Whoever names what they may not see is told that there is no such thing, wherever they name it; the audit log is told
 * what it was. What is not there at all leaves no trace.
 */

let scene: Scene;
let a: InProcessReplica;
let ann: string;
let bea: string;
/** Of whom bea sees nothing. */
let project: string;
let agent: string;
let group: string;
/** Bea's own. */
let own: string;
let ownGroup: string;

beforeAll(async () => {
  scene = await Scene.create();
  a = await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_TRUSTED_PROXIES: "127.0.0.0/8, ::1" });
  [ann, bea] = (await Promise.all(
    ["ann", "bea"].map(async (name) =>
      (await testLogin(a, { email: `${name}@example.org`, role: "member" })).text("accessToken"),
    ),
  )) as [string, string];
  project = (await as(ann, "POST", "/api/v1/projects", { name: "hers" })).text("id");
  group = (await as(ann, "GET", `/api/v1/groups?projectId=${project}`)).text("groups.0.id");
  own = (await as(bea, "POST", "/api/v1/projects", { name: "mine" })).text("id");
  ownGroup = (await as(bea, "POST", "/api/v1/groups", { name: "my people" })).text("id");
  await scene.runtimeBroker(a);
  agent = await scene.agent(a, project, "worker");
});
afterAll(() => scene.end());

/** Each from an address of its own: of many refusals of one only some are told. */
let calls = 0;
const as = (token: string, method: string, path: string, body?: unknown): Promise<ApiReply> => {
  calls += 1;
  return api(a, method, path, body, { token, headers: { "x-forwarded-for": `203.0.113.${calls}` } });
};
const denials = async () => (await api(a, "GET", "/api/v1/admin/audit?action=access_denied&limit=1000")).list("items");
const told = ({ status, body }: ApiReply, id: string) => [
  status,
  body.replace(/"requestId":"[^"]*"/, "").replaceAll(id, "<id>"),
];

type Named = "project" | "agent" | "group";
const idOf = (kind: Named): string => ({ project, agent, group })[kind];

test.each<readonly [string, Named, (id: string) => readonly [string, unknown?]]>([
  ["POST", "project", (id) => ["/api/v1/agents", { name: "x", task: "t", projectId: id }]],
  ["POST", "project", (id) => ["/api/v1/auth/tokens", { name: "ci", projectId: id, scopes: ["agent:read"] }]],
  [
    "POST",
    "project",
    (id) => [
      "/api/v1/notifications/subscriptions",
      { scope: "project", projectId: id, triggerActivities: ["COMPLETED"] },
    ],
  ],
  [
    "POST",
    "agent",
    (id) => [
      "/api/v1/notifications/subscriptions",
      { scope: "agent", projectId: own, agentId: id, triggerActivities: ["COMPLETED"] },
    ],
  ],
  ["POST", "agent", (id) => [`/api/v1/groups/${ownGroup}/members`, { memberType: "agent", memberId: id }]],
  ["POST", "group", (id) => [`/api/v1/groups/${ownGroup}/members`, { memberType: "group", memberId: id }]],
  ["POST", "group", (id) => ["/api/v1/groups", { name: "inside", parentId: id }]],
  ["GET", "agent", (id) => [`/api/v1/agents/${id}`]],
  ["GET", "agent", (id) => [`/api/v1/projects/${own}/agents/${id}`]],
  ["POST", "agent", (id) => [`/api/v1/projects/${own}/agents/${id}/stop`, {}]],
  ["GET", "project", (id) => [`/api/v1/projects/${id}/agents`]],
])("%s with the id of a hidden %s is answered as any id, and audited", async (method, kind, request) => {
  const id = idOf(kind);
  const before = (await denials()).length;
  const absentId = systemRandom.uuid();
  const absent = await as(bea, method, ...request(absentId));
  const hidden = await as(bea, method, ...request(id));
  expect([400, 404]).toContain(absent.status);
  expect(told(hidden, id)).toEqual(told(absent, absentId));
  // What is there no more, is as what never was: the one row is of what is hidden.
  await eventually(async () => (await denials()).length === before + 1);
  expect((await denials())[0]).toMatchObject({
    result: "failure",
    reason: "default deny",
    actor: { kind: "user", email: "bea@example.org" },
    target: { type: kind, id },
    projectId: project,
    details: { method, hidden: true },
  });
});

test("the name of a hidden agent, and the id of a hidden project that is to be made, are audited too", async () => {
  const before = (await denials()).length;
  const absent = await as(bea, "POST", "/api/v1/agents/nobody/stop", {});
  const hidden = await as(bea, "POST", "/api/v1/agents/worker/stop", {});
  expect(told(hidden, "")).toEqual(told(absent, ""));
  await eventually(async () => (await denials()).length === before + 1);
  expect((await denials())[0]).toMatchObject({ target: { type: "agent", id: agent }, details: { hidden: true } });
  expect((await as(bea, "POST", "/api/v1/projects", { id: project, name: "taken" })).status).toBe(409);
  await eventually(async () => (await denials()).length === before + 2);
  expect((await as(bea, "POST", "/api/v1/projects/register", { id: project, name: "taken" })).status).toBe(409);
  await eventually(async () => (await denials()).length === before + 3);
  expect((await denials())[0]).toMatchObject({ target: { type: "project", id: project }, details: { hidden: true } });
});
