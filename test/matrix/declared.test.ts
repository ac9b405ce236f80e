import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import type { Does } from "@rootstock/hub";
import type { Caller } from "./callers.ts";
import type { World } from "./world.ts";

/** What a route declares is what its handler asks: read beside the path, it can be believed. */

const DECIDE = "../../packages/hub/src/auth/access/decide.ts";
const asked = new Set<string>();
const real: typeof import("../../packages/hub/src/auth/access/decide.ts") = await import(DECIDE);
jest.unstable_mockModule(DECIDE, () => ({
  ...real,
  decide: (...[principal, action, resource, facts]: Parameters<typeof real.decide>) => {
    asked.add(`${action} ${resource.kind}`);
    return real.decide(principal, action, resource, facts);
  },
  decisionOn: (...[principal, action, resource]: Parameters<typeof real.decisionOn>) => {
    asked.add(`${action} ${resource.kind}`);
    return real.decisionOn(principal, action, resource);
  },
}));
const { isDecided } = await import("@rootstock/hub");
const { makeWorld, freeze } = await import("./world.ts");
const { makeCallers } = await import("./callers.ts");
const { call, nameOf } = await import("./request.ts");

/** Those who come past the access rules, and of whom nothing else is known beforehand: each asks for another reason. */
const ASKING = ["mem", "own", "hub", "a=", "r="];

/** What asks nothing in this world, and why. */
const ASKS_NOTHING: Readonly<Record<string, string>> = {
  "GET /api/v1/messages/:messageId/trace": "the message is to a person, and between the two",
};

let world: World;
let callers: readonly Caller[];
beforeAll(async () => {
  world = await makeWorld();
  callers = (await makeCallers(world)).filter(({ code }) => ASKING.includes(code));
  await freeze(world.scene);
});
afterAll(() => world.scene.end());

/** What `decide` is to be asked; undefined where the declaration says that it is not. */
const questionOf = (does: Does): string | undefined => {
  if (!isDecided(does)) return undefined;
  const { action, on } = does;
  if (action !== "create") return `${action} ${on}`;
  // What is not there yet: an agent is asked of its project, everything else of the hub.
  return on === "agent" ? "create project" : "create hub";
};

test("what declares to do nothing asks nothing", async () => {
  const routes = world.replica.hub.routes.filter(
    ({ does, path }) => does.on === "nothing" && path.includes("settings"),
  );
  expect(routes).toHaveLength(1);
  asked.clear();
  for (const route of routes) for (const caller of callers) await call(world, route, caller);
  expect([...asked]).toEqual([]);
});

test("every handler asks for what its route declares", async () => {
  const silent: string[] = [];
  let checked = 0;
  for (const route of [...world.replica.hub.routes, ...world.replica.hub.upgradeRoutes]) {
    const question = questionOf(route.does);
    if (question === undefined || ASKS_NOTHING[nameOf(route)]) continue;
    asked.clear();
    for (const caller of callers) await call(world, route, caller);
    checked += 1;
    if (!asked.has(question))
      silent.push(`${nameOf(route)}: not "${question}", but ${[...asked].join(", ") || "nothing"}`);
  }
  expect(silent).toEqual([]);
  expect(checked).toBeGreaterThan(60);
});
