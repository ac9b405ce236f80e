import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Route } from "@rootstock/hub";
import { systemRandom } from "@rootstock/service";
import { api, Scene } from "@rootstock/testkit";
import { Validator } from "@seriousme/openapi-schema-validator";

/** The document of the API: made from the declared routes, and held against every answer of every other test. */

let scene: Scene;
let replica: Awaited<ReturnType<Scene["replica"]>>;
beforeAll(async () => {
  scene = await Scene.create();
  replica = await scene.replica();
});
afterAll(() => scene.end());

const fetched = async () =>
  (await api(replica, "GET", "/api/v1/openapi.json", undefined, { token: "" })).json as object;

test("anybody gets the document, and it is valid OpenAPI 3.1", async () => {
  const checked = await new Validator().validate({ ...(await fetched()) });
  expect(checked).toMatchObject({ valid: true });
});

test("it has every declared route but the legacy ones, and those of parts that the hub does not have", async () => {
  const { paths } = (await fetched()) as { readonly paths: Readonly<Record<string, object>> };
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((m) => `${m} ${path}`),
  );
  const declared = replica.hub.routes
    .filter((route) => route.documented !== false)
    .map(({ method, path }) => {
      const template = path.replace(/:(\w+)/g, "{$1}").replace(/\/\*$/, "/{rest}");
      return `${method.toLowerCase()} ${template}`;
    });
  expect(new Set(documented)).toEqual(new Set(declared));
  expect(documented.some((name) => name.includes("/groves"))).toBe(false);
});

test("what is left out answers 501, or 405 at a path that is in it", async () => {
  const { routes } = replica.hub;
  // One that stands behind another with the same method and path is never asked.
  const first = (r: Route) => routes.find(({ method, path }) => method === r.method && path === r.path) === r;
  const served = new Set(routes.flatMap(({ documented, path }) => (documented === false ? [] : path)));
  const left = routes.filter((route) => route.documented === false && first(route));
  expect(left.length).toBeGreaterThan(0);
  for (const { method, path, replies, refuses } of left) {
    expect([replies, refuses]).toEqual([{}, ["not_implemented"]]);
    const target = path.replace(/:\w*Id\b/g, systemRandom.uuid()).replace(/:\w+|\*/g, "x");
    const reply = await api(replica, method, target);
    const answer = served.has(path) ? [405, "method_not_allowed"] : [501, "not_implemented"];
    expect([method, target, reply.status, reply.get("error.code")]).toEqual([method, target, ...answer]);
  }
});

test("a path that is not in it answers 404 in the envelope", async () => {
  const reply = await api(replica, "GET", "/api/v1/nowhere");
  expect([reply.status, reply.get("error.code")]).toEqual([404, "not_found"]);
});

test("every route says what it does and what it answers", () => {
  const silent = replica.hub.routes.filter(({ replies, summary }) => !replies || !summary);
  expect(silent.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
});

test("a key of idempotency with which something was done refuses no look at anything", async () => {
  const headers = { "idempotency-key": "seen-before" };
  const made = await api(replica, "POST", "/api/v1/projects", { name: "keyed" }, { headers });
  expect(made.status).toBe(201);
  expect((await api(replica, "GET", "/api/v1/projects", undefined, { headers })).status).toBe(200);
});
