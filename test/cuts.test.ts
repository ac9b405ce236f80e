import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, eventually, type InProcessReplica, Scene } from "@rootstock/testkit";

/** A socket that is lost again and again at the worst moments, always back at the same replica. */

let scene: Scene;
let owner: InProcessReplica;

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
});
afterEach(() => scene.end());

test("a socket lost again and again with messages on the wire: each arrives once and in order, none is stuck", async () => {
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agents = await Promise.all(["a1", "a2", "a3", "a4"].map((name) => scene.agent(owner, project, name)));
  const each = 25;
  let sending = true;
  const sent = Promise.all(
    agents.map(async (agent) => {
      for (let i = 0; i < each; i += 1) {
        const reply = await api(owner, "POST", `/api/v1/agents/${agent}/message`, { message: `${i}` });
        expect([200, 202]).toContain(reply.status);
      }
    }),
  ).finally(() => {
    sending = false;
  });
  while (sending) {
    await Promise.race([runtimeBroker.onRequest.next((r) => r.path.endsWith("/message")), sent]);
    const back = runtimeBroker.onSession.next();
    runtimeBroker.cut();
    await back;
  }
  await sent;
  await eventually(async () => {
    const rows = await scene.database.query("select state, count(*)::int as count from messages group by state");
    expect(rows).toEqual([{ state: "delivered", count: each * agents.length }]);
  }, 20_000);
  expect(runtimeBroker.sessions.length).toBeGreaterThan(10);
  for (const slug of ["a1", "a2", "a3", "a4"]) {
    const texts = runtimeBroker.delivered
      .filter((d) => d.agent === slug)
      .map((d) => Number(Reflect.get(Object(Reflect.get(Object(d.body), "structured_message")), "msg")));
    expect(texts).toEqual(Array.from({ length: each }, (_, i) => i));
  }
});

test("a message that is claimed for the next session before its loss over the last one is written down is not stuck", async () => {
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  await scene.database.query(`
    create function late() returns trigger language plpgsql as $$ begin
      if current_query() like '%set state = ''pending'', hold_reason = $%' then perform pg_sleep(1); end if;
      return null;
    end $$`);
  await scene.database.query(
    "create trigger late before update on messages for each statement execute function late()",
  );
  runtimeBroker.holdAnswers();
  const reply = api(owner, "POST", `/api/v1/agents/${agent}/message`, { message: "first" });
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  runtimeBroker.cut();
  runtimeBroker.releaseAnswers();
  expect([200, 202]).toContain((await reply).status);
  await api(owner, "POST", `/api/v1/agents/${agent}/message`, { message: "second" });
  await eventually(async () => {
    const rows = await scene.database.query("select state from messages");
    expect(rows).toEqual([{ state: "delivered" }, { state: "delivered" }]);
  });
  expect(runtimeBroker.delivered).toHaveLength(2);
});
