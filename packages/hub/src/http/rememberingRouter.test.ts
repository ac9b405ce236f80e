import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "@jest/globals";
import { RememberingRouter } from "./rememberingRouter.ts";
import { demandHost, targetOf } from "./requestParts.ts";

const routerOf = (...routes: readonly (readonly [string, string])[]): RememberingRouter<string> => {
  const router = new RememberingRouter<string>();
  for (const [method, path] of routes) router.add(method, path, `${method} ${path}`);
  return router;
};

test("a path has the same route and parameters each time, by its method, and others their own", () => {
  const router = routerOf(["GET", "/agents/:id"], ["POST", "/agents/:id"], ["GET", "/agents/:id/logs"]);
  const asked = (method: string, path: string) => {
    const [found, stash] = router.match(method, path);
    return found.map(([handler, params]) => [
      handler,
      Object.entries(params).map(([name, at]) => [name, typeof at === "number" ? stash?.[at] : at]),
    ]);
  };
  for (let round = 0; round < 2; round += 1) {
    expect(asked("GET", "/agents/a")).toEqual([["GET /agents/:id", [["id", "a"]]]]);
    expect(asked("GET", "/agents/b")).toEqual([["GET /agents/:id", [["id", "b"]]]]);
    expect(asked("POST", "/agents/a")).toEqual([["POST /agents/:id", [["id", "a"]]]]);
    expect(asked("GET", "/agents/a/logs")).toEqual([["GET /agents/:id/logs", [["id", "a"]]]]);
    expect(asked("DELETE", "/agents/a")).toEqual([]);
    expect(asked("GET", "/nothing")).toEqual([]);
  }
});

test("however many paths are made up, those that are asked for have their routes", () => {
  const router = routerOf(["GET", "/agents/:id"]);
  for (let n = 0; n < 20_000; n += 1) expect(router.match("GET", `/agents/${n}`)[0]).toHaveLength(1);
  expect(router.match("GET", `/agents/${"x".repeat(5_000)}`)[0]).toHaveLength(1);
});

test("a path that is remembered keeps nothing of the URL that it was cut from", () => {
  // Routes as ambiguous as the hub's: Hono finds them part by part, and cuts the parts from the path.
  const router = routerOf(["GET", "/agents/:id"], ["GET", "/agents/:id/logs"], ["GET", "/:kind/own"]);
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  const used = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = used();
  const long = "x".repeat(30_000);
  for (let n = 0; n < 3_000; n += 1) {
    const url = ["http://hub/agents/an-agent-with-a-name-", n, "?", long].join("");
    expect(router.match("GET", targetOf(url).path)[0]).toHaveLength(1);
  }
  expect(used() - before).toBeLessThan(15_000_000);
});

test("path and query are those of the URL", () => {
  for (const text of [
    "http://hub/",
    "http://hub/?",
    "http://hub:8080/a/b?x=1&y=/z?",
    "http://hub/a%2Fb?x=%3F#part?no",
    "http://hub/a#part?no",
    "http://user:secret@hub/a//b?",
  ]) {
    const { pathname, search } = new URL(text);
    expect(targetOf(text)).toEqual({ path: pathname, query: search.slice(1) });
  }
});

test("a host that no URL can have is refused, and no other", () => {
  for (const host of ["256.256.256.256", "1.2.3.4.5", "hub.0x1", "a.08", "999999999999:8080", "256.1.1.1."])
    expect(() => demandHost(`http://${host}/a.1/b`)).toThrow("the Host header is not valid");
  for (const host of ["hub", "hub_1:8080", "127.0.0.1:8080", "[::1]:8080", "1hub", "a.1b", "xn--bcher-kva.example"])
    expect(() => demandHost(`http://${host}/256.256.256.256`)).not.toThrow();
});
