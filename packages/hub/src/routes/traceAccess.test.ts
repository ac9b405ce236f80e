import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import type { Principal } from "../auth/index.ts";
import { ADMIN, agentPrincipal, member } from "./routes.testing.ts";
import { events, OWNER, TraceStage } from "./traces.testing.ts";

/** Who may see where a message or an operation is. */

const s = new TraceStage();
const UNKNOWN = "0e0e0e0e-0000-4000-8000-00000000dead";

test("traces are for whoever may see the agent, sent the message, or asked for the operation; to others they do not exist", async () => {
  const a = await s.replica("A");
  const [sender, asker, eve] = [member("sender"), member("asker"), member("eve")];
  const paths = {
    message: `/api/v1/messages/${await s.message(a, { senderId: sender.id })}/trace`,
    operation: `/api/v1/dispatches/${await s.operation(a, asker.id)}`,
    list: `/api/v1/agents/${s.agent}/dispatches`,
  };
  const statuses = async (principal: Principal) => {
    const caller = s.hub.as(principal);
    return [
      (await caller.get(paths.message)).status,
      (await caller.get(paths.operation)).status,
      (await caller.get(paths.list)).status,
    ];
  };
  expect(await statuses(ADMIN)).toEqual([200, 200, 200]);
  expect(await statuses(OWNER)).toEqual([200, 200, 200]);
  expect(await statuses(agentPrincipal(systemRandom.uuid(), s.project))).toEqual([200, 200, 200]);
  expect(await statuses(sender)).toEqual([200, 404, 404]);
  expect(await statuses(asker)).toEqual([404, 200, 404]);
  expect(await statuses(eve)).toEqual([404, 404, 404]);
  expect(await statuses(agentPrincipal(systemRandom.uuid(), UNKNOWN))).toEqual([404, 404, 404]);
  expect(await statuses({ kind: "runtimeBroker", id: s.runtimeBroker } as Principal)).toEqual([403, 403, 403]);
  expect(await statuses({ kind: "nobody" })).toEqual([401, 401, 401]);
  for (const path of [`/api/v1/messages/${UNKNOWN}/trace`, "/api/v1/messages/nonsense/trace", `/api/v1/dispatches/x`])
    expect((await s.hub.as(ADMIN).get(path)).status).toBe(404);
});

test("a message to a person is in the inbox as soon as it is stored; only the two of them and an admin see its trace", async () => {
  const alice = member("alice");
  const id = systemRandom.uuid();
  await s.query(
    `insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg)
     values ($1, $2, $3, 'agent:a1', $3, 'user:alice', $4, 'done')`,
    [id, s.project, s.agent, alice.id],
  );
  const path = `/api/v1/messages/${id}/trace`;
  const trace = await s.read(path, alice);
  expect([trace.state, events(trace), trace.next]).toEqual(["delivered", ["accepted", "delivered"], []]);
  expect((await s.hub.as(ADMIN).get(path)).status).toBe(200);
  expect((await s.hub.as(agentPrincipal(s.agent, s.project)).get(path)).status).toBe(200);
  for (const other of [OWNER, member("eve"), agentPrincipal(systemRandom.uuid(), s.project)])
    expect((await s.hub.as(other).get(path)).status).toBe(404);
});
