import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Base, createLog, systemClock, systemRandom } from "@rootstock/service";
import { eventually, heard, SpanCollector, testLog } from "@rootstock/testkit";
import { acceptedTraceparent, NO_TRACING, OtlpTracing, type OtlpTracingOptions } from "./index.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";
const GIVEN = `00-${TRACE}-${SPAN}-01`;
const BASE: Base = { clock: systemClock, random: systemRandom, log: testLog() };

let collector: SpanCollector;
let tracings: OtlpTracing[] = [];
beforeEach(async () => {
  collector = await SpanCollector.start();
});
afterEach(async () => {
  await Promise.all(tracings.map((t) => t.stop()));
  tracings = [];
  await collector.stop();
});

const started = async (options: Partial<OtlpTracingOptions> = {}, base: Base = BASE): Promise<OtlpTracing> => {
  const tracing = new OtlpTracing(base, {
    url: `${collector.endpoint}/v1/traces`,
    headers: { "x-key": "abc" },
    serviceName: "hub",
    serviceVersion: "1",
    instanceId: "i1",
    name: "replica-1",
    ratio: 1,
    ...options,
  });
  tracings.push(tracing);
  await tracing.start();
  return tracing;
};

test("spans reach the collector as one trace below the client's, each naming its parent and its replica", async () => {
  const tracing = await started();
  const server = tracing.begin("POST /x", "server", GIVEN, { "http.route": "/x" });
  const stored = tracing.begin("commit", "producer", server.traceparent);
  const taken = tracing.begin("deliver", "consumer", stored.traceparent);
  taken.end("the socket was lost");
  taken.end();
  stored.end();
  server.set({ "http.response.status_code": 200 });
  server.end();
  await tracing.stop();
  const find = (name: string) => collector.spans.find((s) => s.name === name);
  expect(collector.spans).toHaveLength(3);
  expect(find("POST /x")).toMatchObject({
    traceId: TRACE,
    parentSpanId: SPAN,
    kind: 2,
    failed: false,
    attributes: { "http.route": "/x", "http.response.status_code": 200 },
    resource: { "service.name": "hub", "service.instance.id": "i1", "rootstock.replica": "replica-1" },
  });
  expect(find("commit")).toMatchObject({ traceId: TRACE, parentSpanId: find("POST /x")?.spanId, kind: 4 });
  expect(find("deliver")).toMatchObject({
    traceId: TRACE,
    parentSpanId: find("commit")?.spanId,
    kind: 5,
    failed: true,
  });
  expect(collector.exports[0]).toMatchObject({ "x-key": "abc", "content-type": "application/json" });
});

test("a call without a trace begins one; what a client does not record is not recorded here, and travels on", async () => {
  const tracing = await started();
  const root = tracing.begin("root", "server", undefined);
  expect(root.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  const silent = tracing.begin("silent", "server", `00-${TRACE}-${SPAN}-00`);
  expect(silent.traceparent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`));
  silent.end();
  root.end();
  await tracing.stop();
  expect(collector.spans.map((s) => s.name)).toEqual(["root"]);
});

test("a ratio of 0 records only what clients record", async () => {
  const tracing = await started({ ratio: 0 });
  tracing.begin("ours", "server", undefined).end();
  tracing.begin("theirs", "server", GIVEN).end();
  await tracing.stop();
  expect(collector.spans.map((s) => s.name)).toEqual(["theirs"]);
});

test("a collector that refuses is told of once, and once when it is back; nothing waits for it", async () => {
  const lines: string[] = [];
  const log = createLog({ level: "info", destination: { write: heard(lines) } });
  const tracing = await started({}, { ...BASE, log });
  const said = (text: string) => lines.filter((l) => l.includes(text)).length;
  collector.status = 400;
  tracing.begin("one", "server", undefined).end();
  await eventually(() => said("not taken") === 1);
  tracing.begin("two", "server", undefined).end();
  await eventually(() => collector.exports.length >= 2);
  collector.status = 200;
  tracing.begin("three", "server", undefined).end();
  await eventually(() => said("takes spans again") === 1);
  expect(said("not taken")).toBe(1);
  expect(collector.spans.map((s) => s.name)).toEqual(["three"]);
});

test("a replica's end does not hang on a collector that does not answer", async () => {
  const tracing = await started();
  const release = collector.hold();
  tracing.begin("last words", "server", undefined).end();
  await tracing.stop();
  expect(tracing.on).toBe(false);
  release();
});

test("stopped, not started or switched off, what came in goes on and nothing is made", async () => {
  const tracing = await started();
  await tracing.stop();
  for (const off of [tracing, NO_TRACING]) {
    expect(off.on).toBe(false);
    expect(off.begin("x", "server", GIVEN).traceparent).toBe(GIVEN);
    expect(off.begin("x", "server", undefined).traceparent).toBeUndefined();
  }
  expect(acceptedTraceparent(GIVEN)).toBe(GIVEN);
  expect(acceptedTraceparent("nonsense")).toBeUndefined();
});
