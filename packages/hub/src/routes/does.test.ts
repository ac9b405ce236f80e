import { expect, test } from "@jest/globals";
import { anyone, users } from "./access.ts";
import { type Declared, demandDeclared, demandedOf, demandedOfHub, NOTHING, PUBLIC } from "./does.ts";

const declared = (more: Partial<Declared>): Declared => ({
  method: "GET",
  path: "/api/v1/things",
  access: users,
  does: NOTHING,
  ...more,
});

test("a route that does not say what it does to what does not serve", () => {
  const { does: _, ...silent } = declared({});
  expect(() => demandDeclared([declared({}), silent as Declared])).toThrow("GET /api/v1/things does not declare");
  expect(() => demandDeclared([declared({ does: { action: "read", on: "agent" } })])).not.toThrow();
});

test("what needs no credential says that it is public, and nothing else says so", () => {
  expect(() => demandDeclared([declared({ access: anyone })])).toThrow("public");
  expect(() => demandDeclared([declared({ does: PUBLIC })])).toThrow("public");
  expect(() => demandDeclared([declared({ access: anyone, does: PUBLIC })])).not.toThrow();
});

test("a look-up demands what is declared of its kind of resource, and reading of every other", () => {
  expect(demandedOf({ action: "stop", on: "agent" }, "agent")).toBe("stop");
  expect(demandedOf({ action: "stop", on: "agent" }, "project")).toBe("read");
  expect(demandedOf({ action: "create", on: "agent" }, "project")).toBe("create");
  expect(demandedOf({ action: "list", on: "agent" }, "project")).toBe("read");
  expect(demandedOf({ action: "update", on: "self" }, "project")).toBe("read");
});

test("what is declared of the hub is asked before the handler runs", () => {
  expect(demandedOfHub({ action: "update", on: "hub" })).toEqual({ action: "update", resource: { kind: "hub" } });
  expect(demandedOfHub({ action: "create", on: "project" })).toEqual({
    action: "create",
    resource: { kind: "hub", of: "project" },
  });
  expect(demandedOfHub({ action: "create", on: "agent" })).toBeUndefined();
  expect(demandedOfHub({ action: "read", on: "project" })).toBeUndefined();
});
