import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { messageBody, PROJECT, query } from "../testing/setup.ts";
import { OperationsScene } from "./operations.testing.ts";

/** Messages that are typed into agents (spec/01 4.6). */

const scene = new OperationsScene();
const { name, call, create, say } = scene;

test("a message is typed in and its reply is in the log", async () => {
  const slug = name();
  await create(slug);
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  expect((await say(slug, "hi there $(exit)")).status).toBe(200);
  await terminal.shows("shell> received: hi there $(exit)");
  expect((await say(slug, "two\nlines", undefined, { plain: true })).status).toBe(200);
  await terminal.shows("shell> received: two lines");
  const logs = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect(logs.text).toContain("shell> received: hi there $(exit)\n");
  expect(logs.text).not.toContain("\u001b");
  const tail = await call("GET", `/api/v1/agents/${slug}/logs`, undefined, `tail=1&${query}`);
  expect(tail.text).toBe("shell> received: two lines\n");
});

test("a message of 64 KB arrives whole", async () => {
  const slug = name();
  await create(slug);
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  expect((await say(slug, `${"x".repeat(65_000)}-the-end`)).status).toBe(200);
  await terminal.shows("the-end\r\nshell> received: ".slice(0, 7));
  expect((await say(slug, "after")).status).toBe(200);
  await terminal.shows("received: after");
  const logs = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect(logs.text).toContain(`shell> received: ${"x".repeat(65_000)}-the-end\n`);
});

test("messages sent at once arrive in the order of their frames, each once", async () => {
  const slug = name();
  await create(slug);
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  const sent = Array.from({ length: 40 }, (_, i) =>
    scene.joined.session.sendRequest("POST", `/api/v1/agents/${slug}/message`, {
      query,
      body: messageBody(`number ${i}`, systemRandom.uuid(), { plain: true }),
    }),
  );
  for (const { requestId } of sent) expect((await scene.joined.session.answer(requestId)).status).toBe(200);
  await terminal.shows("received: number 39");
  const { text } = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect([...text.matchAll(/received: number (\d+)/g)].map((m) => Number(m[1]))).toEqual(sent.map((_, i) => i));
});

test("a message id that was delivered before is not typed again", async () => {
  const slug = name();
  await create(slug);
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  const id = systemRandom.uuid();
  expect((await say(slug, "only once", id)).status).toBe(200);
  expect((await say(slug, "only once", id)).status).toBe(200);
  expect((await say(slug, "marker", systemRandom.uuid())).status).toBe(200);
  await terminal.shows("received: marker");
  const { text } = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect(text.match(/received: only once/g)).toHaveLength(1);
});

test("raw messages are keystrokes, interrupts come first, an empty one is Enter, plain ones carry no keystrokes", async () => {
  const slug = name();
  await create(slug);
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  await say(slug, "ab", undefined, { raw: true });
  await say(slug, "cd", undefined, { raw: true });
  await say(slug, "");
  await terminal.shows("received: abcd");
  await call("POST", `/api/v1/agents/${slug}/message`, { ...messageBody("stop that"), interrupt: true });
  await terminal.shows("shell> interrupted");
  await terminal.shows("received: stop that");
  await say(slug, "tricky\u001b[201~\u0003end", undefined, { plain: true });
  await terminal.shows("received: tricky[201~end");
});

test("a hub that renders the text itself is obeyed", async () => {
  const slug = name();
  await create(slug);
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  await call("POST", `/api/v1/agents/${slug}/message`, { ...messageBody("ignored"), delivery_text: "rendered" });
  await terminal.shows("received: rendered");
});

test("a message for an agent that does not run is refused, for an unknown one too, and bad ones name the field", async () => {
  const slug = name();
  expect((await say(slug, "hello")).get("error.code")).toBe("agent_not_found");
  await create(slug);
  await call("POST", `/api/v1/agents/${slug}/stop`);
  const stopped = await say(slug, "hello", "m-1");
  expect([stopped.status, stopped.get("error.code")]).toEqual([409, "agent_not_running"]);
  const invalid = await say(slug, "hello", "white space");
  expect([invalid.status, invalid.get("error.details.field")]).toEqual([400, "message_id"]);
  const broken = scene.joined.session.sendRequest("POST", `/api/v1/agents/${slug}/message`, { query, body: 7 });
  expect((await scene.joined.session.answer(broken.requestId)).status).toBe(400);
});

test("a message refused while the agent was down is typed when it comes again", async () => {
  const slug = name();
  await create(slug);
  await call("POST", `/api/v1/agents/${slug}/stop`);
  expect((await say(slug, "later", "m-2")).status).toBe(409);
  await call("POST", `/api/v1/agents/${slug}/start`, {});
  const terminal = scene.joined.session.terminal(slug, PROJECT);
  expect((await say(slug, "later", "m-2")).status).toBe(200);
  await terminal.shows("received: later");
});
