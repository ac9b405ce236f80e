import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  type ApiReply,
  api,
  eventually,
  type InProcessReplica,
  Scene,
  type SimulatedRuntimeBroker,
} from "@rootstock/testkit";

/**
 * A stop that lands on another replica is asked for at the owner (design section 8), which makes the intent's row before
 * it acts. Whatever becomes of that call, the stop is carried out once, and its end is told.
 */

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let runtimeBroker: SimulatedRuntimeBroker;
let agent: string;
let between: Server | undefined;

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  runtimeBroker = await scene.runtimeBroker(owner);
  agent = await scene.agent(owner, await scene.project(owner), "a1");
});
afterEach(async () => {
  between?.closeAllConnections();
  between?.close();
  between = undefined;
  await scene.end();
});

const stop = (): Promise<ApiReply> => api(entry, "POST", `/api/v1/agents/${agent}/stop`);
const stops = () => runtimeBroker.received.filter(({ path }) => path.endsWith("/stop"));
const rows = () =>
  scene.database.query("select state, accepted_by, claimed_by, attempts from broker_dispatch where op = 'stop'");
const nameOf = async (id: unknown) =>
  (await scene.database.query("select name from hub_replicas where instance_id = $1", [id]))[0]?.name;

/** Has the entry find something else where the owner says that it is. Returns what was called there. */
const standIn = async (answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string[]> => {
  const called: string[] = [];
  const server = createServer((request, response) => {
    called.push(request.url ?? "");
    answer(request, response);
  });
  between = server;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await scene.database.query(
    "update hub_replicas set internal_url = $1 where instance_id in (select connected_hub_id from runtime_brokers)",
    [url],
  );
  return called;
};

const expectStoppedOnce = async (reply: ApiReply): Promise<void> => {
  expect([reply.status, reply.get("phase")]).toEqual([200, "stopped"]);
  expect(stops()).toHaveLength(1);
  expect(await rows()).toMatchObject([{ state: "done" }]);
};

test("the owner makes the row, in the name of the replica that accepted the stop, and the answer shows the agent as it is", async () => {
  const reply = await stop();
  await expectStoppedOnce(reply);
  const [row] = await rows();
  expect([await nameOf(row?.accepted_by), await nameOf(row?.claimed_by)]).toEqual([entry.name, owner.name]);
  expect(row?.attempts).toBe(1);
  const { _capabilities, ...now } = (await api(owner, "GET", `/api/v1/agents/${agent}`)).json as Record<
    string,
    unknown
  >;
  expect(now).toMatchObject(reply.json as object);
});

test("an owner that never answers is not waited for, and left alone by the next stop", async () => {
  const called = await standIn(() => {});
  await expectStoppedOnce(await stop());
  expect((await stop()).status).toBe(200);
  expect(called).toHaveLength(1);
});

test("an owner of a release that knows no such call is told by a signal", async () => {
  await standIn((_, response) => response.writeHead(404).end());
  await expectStoppedOnce(await stop());
});

test("what is not the owner any more says so, and the new one stops the agent", async () => {
  const called = await standIn((_, response) => response.writeHead(409).end());
  await expectStoppedOnce(await stop());
  expect(called).toEqual(["/internal/v1/halts"]);
});

test("an answer that is lost on its way is read from the row: nothing is done twice", async () => {
  const { url } = owner;
  await standIn((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", async () => {
      const { "x-rootstock-replica-token": token = "" } = request.headers;
      const headers = { "content-type": "application/json", "x-rootstock-replica-token": String(token) };
      const reply = await fetch(`${url}${request.url}`, { method: "POST", headers, body: Buffer.concat(chunks) });
      expect(reply.status).toBe(200);
      response.destroy();
    });
  });
  await expectStoppedOnce(await stop());
});

test("a container that takes its time is not held against the owner: its end is told, and the next stop is asked for again", async () => {
  const answered = async (status: number) =>
    new RegExp(`count\\{[^}]*route="/internal/v1/halts"[^}]*status="${status}"[^}]*\\} 1`).test(
      (await api(owner, "GET", "/metrics")).body,
    );
  runtimeBroker.holdAnswers();
  const slow = stop();
  await eventually(() => answered(409));
  runtimeBroker.releaseAnswers();
  await expectStoppedOnce(await slow);
  expect(await answered(200)).toBe(false);
  expect((await stop()).status).toBe(200);
  expect(await answered(200)).toBe(true);
});

test("a stop that would have to wait its turn at the owner waits as a row", async () => {
  const arrived = runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  runtimeBroker.holdAnswers();
  const message = api(owner, "POST", `/api/v1/agents/${agent}/message`, { message: "hello" });
  await arrived;
  const stopping = stop();
  await eventually(async () => (await rows()).length === 1);
  runtimeBroker.releaseAnswers();
  expect((await message).status).toBe(200);
  await expectStoppedOnce(await stopping);
});
