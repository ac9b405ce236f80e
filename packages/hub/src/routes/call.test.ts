import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { anyone } from "./access.ts";
import { PUBLIC } from "./does.ts";
import { type Call, json, route } from "./route.ts";
import { ADMIN, startTestHub, type TestHub } from "./routes.testing.ts";

let hub: TestHub;
let given: Call[] = [];
beforeAll(async () => {
  hub = await startTestHub([
    route({
      method: "GET",
      path: "/seen",
      access: anyone,
      does: PUBLIC,
      handler: (call) => {
        given = [call as Call, { ...(call as Call) }];
        return json(200, {});
      },
    }),
  ]);
});
afterAll(() => hub.stop());

test("a copy of a call has all of it: nothing that its type promises is lost by `...`", async () => {
  await hub.as(ADMIN).get("/seen");
  const [call, copy] = given;
  if (!call || !copy) throw new Error("not called");
  const has = (of: Call) => Object.entries(of).map(([name, value]) => [name, typeof value]);
  expect(has(copy)).toEqual(has(call));
  expect(Object.getPrototypeOf(call)).toBe(Object.prototype);
  const accessors = Object.values(Object.getOwnPropertyDescriptors(call)).filter(({ get }) => get !== undefined);
  expect(accessors).toEqual([]);
  expect([copy.origin(), copy.address()]).toEqual(["http://localhost", ""]);
  expect(copy.log()).toBe(call.log());
  expect(copy.signal().aborted).toBe(false);
  expect(copy.hungUp()).toBe(false);
});
