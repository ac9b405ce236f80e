import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { ApiReply } from "@rootstock/testkit";
import { type Caller, CROSS_SITE, makeCallers } from "./callers.ts";
import { type AnyRoute, call, nameOf, unnamed } from "./request.ts";
import { hear } from "./subjects.ts";
import { type Cell, type Row, render } from "./table.ts";
import { freeze, makeWorld, type World } from "./world.ts";

/**
 * Who may do what, of every declared route and every kind of principal, against a real replica; compared with the table
 * beside this file. `UPDATE_MATRIX=1 npm test -- test/matrix` writes the table anew.
 */

const TABLE = fileURLToPath(new URL("table.txt", import.meta.url));
const AT_ONCE = 8;

let world: World;
let callers: readonly Caller[];
let subjects: readonly Row[];
beforeAll(async () => {
  world = await makeWorld();
  callers = await makeCallers(world);
  subjects = await hear(world, callers);
  await freeze(world.scene);
});
afterAll(() => world.scene.end());

/** Each route by itself, but those of one path that do nothing together: any of their methods stands for them. */
const groups = (): readonly (readonly AnyRoute[])[] => {
  const found = new Map<string, AnyRoute[]>();
  for (const route of [...world.replica.hub.routes, ...world.replica.hub.upgradeRoutes]) {
    const alone = route.does.on !== "nothing";
    const key = alone ? `${nameOf(route)}${"handler" in route}` : `${route.path} ${route.access.name}`;
    found.set(key, [...(found.get(key) ?? []), route]);
  }
  return [...found.values()];
};

const codeOf = (reply: ApiReply): unknown => reply.get("error.code") ?? reply.get("code");

const cellOf = (route: AnyRoute, reply: ApiReply, toNobody: ApiReply, { code }: Caller): Cell => {
  if (reply.status === 500) return "failed";
  const refused = reply.status === 401 || reply.status === 403 || reply.status === 404;
  // What its body lacks is refused to everybody; but no credential beside it may be the reason.
  if (route.does.on === "public" && code === CROSS_SITE && reply.status === 403) return "403";
  if (route.does.on === "public") return refused && reply.status !== toNobody.status ? "failed" : "ok";
  if (refused) return `${reply.status}`;
  return route.does.action === "list" && reply.json !== undefined && !shows(reply) ? "-" : "ok";
};

/** Whether something that the paths of other routes name is in a list. */
const shows = (reply: ApiReply): boolean => Object.values(world.params).some((id) => reply.body.includes(id));

const rowOf = async (routes: readonly AnyRoute[], problems: string[]): Promise<Row> => {
  const [route] = routes;
  const [nobody] = callers;
  if (!route || !nobody) throw new Error("no route, or nobody");
  for (const name of unnamed(world, route)) problems.push(`${nameOf(route)}: the world has no ${name}`);
  const toNobody = await call(world, route, nobody);
  const cells: Cell[] = [];
  for (const [i, caller] of callers.entries()) {
    const changing = caller.code === CROSS_SITE ? routes.find(({ method }) => method !== "GET") : undefined;
    const one = changing ?? routes[i % routes.length] ?? route;
    const reply = await call(world, one, caller);
    const cell = cellOf(one, reply, toNobody, caller);
    if (cell === "failed")
      problems.push(`${nameOf(one)} as ${caller.code} ${caller.variant ?? ""}: ${reply.status} ${reply.body}`);
    if (cell === "401" && codeOf(reply) === undefined)
      problems.push(`${nameOf(one)} as ${caller.code}: no code in ${reply.body}`);
    cells.push(cell);
  }
  const methods = routes.length > 1 ? "*" : "handler" in route ? route.method : "WS";
  return { methods, route, cells };
};

test("who may do what is what the table says", async () => {
  const problems: string[] = [];
  const rows: Row[] = [...subjects];
  const left = [...groups()];
  const worker = async () => {
    for (let routes = left.shift(); routes; routes = left.shift()) rows.push(await rowOf(routes, problems));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  expect(problems).toEqual([]);
  const found = render(rows, callers);
  if (process.env.UPDATE_MATRIX) await writeFile(TABLE, found);
  expect(found.split("\n")).toEqual((await readFile(TABLE, "utf8")).split("\n"));
}, 360_000);
