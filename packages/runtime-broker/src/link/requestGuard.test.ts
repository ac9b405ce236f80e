import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { type Joined, joinedBroker } from "../testing/setup.ts";

let joined: Joined;
beforeAll(async () => {
  joined = await joinedBroker();
});
afterAll(() => joined.stop());

test.each([
  ["without a signature", { headers: { "X-Scion-Signature": undefined } }],
  ["without a nonce", { headers: { "X-Scion-Nonce": undefined } }],
  ["without a runtime broker id", { headers: { "X-Scion-Broker-ID": undefined } }],
  ["with another key", { secret: Buffer.alloc(32, 7) }],
  ["with another nonce", { headers: { "X-Scion-Nonce": "AAAA" } }],
  ["with a timestamp that is no number", { headers: { "X-Scion-Timestamp": "soon" } }],
  ["signed six minutes ago", { now: systemClock.now() - 360_000 }],
  ["signed six minutes ahead", { now: systemClock.now() + 360_000 }],
])("a request %s is refused", async (_, options) => {
  const answer = await joined.session.request("GET", "/api/v1/info", options);
  expect(answer.status).toBe(401);
  expect(answer.get("error.code")).toBe("broker_auth_failed");
});

test("a request that comes a second time is refused", async () => {
  const { frame, requestId } = joined.session.sendRequest("GET", "/api/v1/info");
  expect((await joined.session.answer(requestId)).status).toBe(200);
  if (frame.type !== "request") throw new Error("not a request");
  joined.session.send({ ...frame, requestId: "again" });
  expect((await joined.session.answer("again")).get("error.code")).toBe("broker_auth_failed");
});

test("an unknown path is unknown only to those who signed", async () => {
  expect((await joined.session.request("GET", "/api/v1/nothing")).status).toBe(404);
  expect(
    (await joined.session.request("GET", "/api/v1/nothing", { headers: { "X-Scion-Signature": "x" } })).status,
  ).toBe(401);
});

test("health needs no signature", async () => {
  const answer = await joined.session.request("GET", "/healthz", { headers: { "X-Scion-Signature": undefined } });
  expect(answer.json).toMatchObject({ status: "healthy", version: "0.1.0", checks: { process: "available" } });
});

test("a path may carry its query, and the signature covers it", async () => {
  const answer = await joined.session.request("GET", "/api/v1/agents", { query: "limit=1&projectId=x%20y" });
  expect(answer.status).toBe(200);
  const { frame } = joined.session.sendRequest("GET", "/api/v1/agents", { query: "limit=1" });
  if (frame.type !== "request") throw new Error("not a request");
  const { query: _, ...rest } = frame;
  joined.session.send({ ...rest, requestId: "moved", path: "/api/v1/agents?limit=1" });
  // The same text is signed either way; here only the nonce has been used by the first one.
  expect((await joined.session.answer("moved")).get("error.message")).toContain("nonce");
});

test.each([
  ["a relative path", { path: "api/v1/info" }, 400],
  ["a broken escape", { path: "/api/v1/%zz" }, 400],
  ["a strange method", { method: "G E T" }, 400],
  ["a body that is not base64", { body: "***" }, 400],
  ["another method", { method: "PUT" }, 401],
])("%s is refused without harm", async (_, change, status) => {
  const { frame } = joined.session.sendRequest("GET", "/api/v1/info");
  if (frame.type !== "request") throw new Error("not a request");
  const requestId = `bad-${status}-${JSON.stringify(change)}`;
  joined.session.send({ ...frame, ...change, requestId });
  expect((await joined.session.answer(requestId)).status).toBe(status);
});
