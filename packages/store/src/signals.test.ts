import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { decodeCommands, encodeCommands } from "./signals.ts";
import { intentAt, type ReadonlyWakes, Wakes, wakesOf } from "./wakes.ts";

const silent = { wake: new Wakes(), done: [], delivered: [] };
const ids = (n: number) => Array.from({ length: n }, () => systemRandom.uuid());

/** For each runtime broker the agents whose messages wait, or "any", and "intent" where one waits. */
const told = (wakes: ReadonlyWakes) =>
  new Map(
    [...wakes].map(([id, { intents, messages }]) => [
      id,
      [...(intents ? ["intent"] : []), ...(messages === "any" ? ["any"] : messages)],
    ]),
  );
const WHOLE = ["intent", "any"];

test("ids come back as they went, and every payload stays below PostgreSQL's limit", () => {
  const wake = ids(450);
  const done = ids(300);
  const delivered = ids(200);
  const payloads = encodeCommands({ wake: wakesOf(wake), done, delivered });
  const decoded = payloads.map(decodeCommands);
  expect(decoded.flatMap((c) => [...told(c.wake)])).toEqual(wake.map((id) => [id, WHOLE]));
  expect(decoded.flatMap((c) => c.done)).toEqual(done);
  expect(decoded.flatMap((c) => c.delivered)).toEqual(delivered);
  expect(Math.max(...payloads.map((p) => p.length))).toBeLessThan(7_000);
  expect(decoded.some((c) => c.everything)).toBe(false);
});

test("agents are told with the runtime broker where they run, and never without it", () => {
  const wake = new Wakes();
  const runtimeBrokers = ids(8);
  for (const id of runtimeBrokers) {
    for (const agentId of ids(40)) wake.addMessage(id, agentId);
    if (id < "8") wake.addIntent(id);
  }
  const payloads = encodeCommands({ ...silent, wake });
  expect(payloads.length).toBeGreaterThan(1);
  const heard = new Wakes();
  for (const payload of payloads) heard.merge(decodeCommands(payload).wake);
  expect(told(heard)).toEqual(told(wake));
});

test("a runtime broker that is woken as a whole is not narrowed to agents, in whatever order it is told", () => {
  const [runtimeBroker = "", agent = ""] = ids(2);
  const whole = (wake: Wakes) => wake.add(runtimeBroker);
  const message = (wake: Wakes) => wake.addMessage(runtimeBroker, agent);
  const intent = (wake: Wakes) => wake.addIntent(runtimeBroker);
  for (const order of [
    [whole, message, intent],
    [intent, message, whole],
  ]) {
    const wake = new Wakes();
    for (const tell of order) tell(wake);
    expect(told(wake)).toEqual(new Map([[runtimeBroker, WHOLE]]));
  }
});

test("an intent wakes nobody for messages", () => {
  const [runtimeBroker = ""] = ids(1);
  const [payload = "", ...more] = encodeCommands({ ...silent, wake: intentAt(runtimeBroker) });
  expect(more).toEqual([]);
  expect(told(decodeCommands(payload).wake)).toEqual(new Map([[runtimeBroker, ["intent"]]]));
});

test("very many agents of a runtime broker become the whole runtime broker", () => {
  const [runtimeBroker = ""] = ids(1);
  const wake = new Wakes();
  for (const agentId of ids(500)) wake.addMessage(runtimeBroker, agentId);
  const [payload = "", ...more] = encodeCommands({ ...silent, wake });
  expect(more).toEqual([]);
  expect(told(decodeCommands(payload).wake)).toEqual(new Map([[runtimeBroker, WHOLE]]));
});

test("too many ids become: look at everything", () => {
  const [payload = "", ...more] = encodeCommands({ ...silent, wake: wakesOf(ids(5_000)) });
  expect(more).toEqual([]);
  expect(decodeCommands(payload)).toMatchObject({ everything: true, wake: { size: 0 } });
});

test("a payload that is not understood means everything, never nothing", () => {
  const [known = ""] = encodeCommands({ ...silent, wake: wakesOf(ids(1)) });
  for (const payload of ["", "{}", "w123", `${known}z`, `x${known.slice(1)}`, `a${known.slice(1)}`])
    expect(decodeCommands(payload).everything).toBe(true);
});

test("nothing to say is not said", () => {
  expect(encodeCommands(silent)).toEqual([]);
});
