import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from "node:net";
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
 * it acts: over the socket between the two, or in HTTP where the owner takes none. Whatever becomes of that call, the stop
 * is carried out once, and its end is told.
 */

const SOCKET = "/internal/v1/calls";
const HTTP = "/internal/v1/halts";

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let runtimeBroker: SimulatedRuntimeBroker;
let agent: string;
let between: Server | TcpServer | undefined;
const wires = new Set<Socket>();

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  runtimeBroker = await scene.runtimeBroker(owner);
  agent = await scene.agent(owner, await scene.project(owner), "a1");
});
afterEach(async () => {
  if (between && "closeAllConnections" in between) between.closeAllConnections();
  for (const wire of wires) wire.destroy();
  wires.clear();
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
  await place(server);
  return called;
};

const place = async (server: Server | TcpServer): Promise<void> => {
  between = server;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await scene.database.query(
    "update hub_replicas set internal_url = $1 where instance_id in (select connected_hub_id from runtime_brokers)",
    [url],
  );
};

/** Puts a wire in between that is cut instead of carrying the answer to the first call. Returns how often it was dialled. */
const cutBeforeFirstAnswer = async (): Promise<() => number> => {
  let dialled = 0;
  const { port } = new URL(owner.url);
  await place(
    createTcpServer((near) => {
      dialled += 1;
      const first = dialled === 1;
      const far = connect(Number(port), "127.0.0.1");
      let upgraded = false;
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        wires.add(one);
        one.on("error", () => {});
        one.on("close", () => other.destroy());
      }
      near.pipe(far);
      far.on("data", (bytes) => {
        if (first && upgraded) near.destroy();
        else near.write(bytes);
        upgraded = true;
      });
    }),
  );
  return () => dialled;
};

/** How many of the stops asked for over the socket the owner has answered so. */
const answeredBySocket = async (status: number): Promise<number> => {
  const line = new RegExp(`rootstock_peer_call_seconds_count\\{call="halt",status="${status}"\\} (\\d+)`);
  return Number(line.exec((await api(owner, "GET", "/metrics")).body)?.[1] ?? 0);
};

const expectStoppedOnce = async (reply: ApiReply): Promise<void> => {
  expect([reply.status, reply.get("phase")]).toEqual([200, "stopped"]);
  expect(stops()).toHaveLength(1);
  expect(await rows()).toMatchObject([{ state: "done" }]);
};

test("the owner makes the row, in the name of the replica that accepted the stop, and the answer shows the agent as it is", async () => {
  const reply = await stop();
  await expectStoppedOnce(reply);
  expect(await answeredBySocket(200)).toBe(1);
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
  const called = await standIn((_, response) => response.writeHead(404).end());
  await expectStoppedOnce(await stop());
  expect(called).toEqual([SOCKET, HTTP]);
});

/** What an owner of the release before answers: it takes no socket for calls. */
const relayingHttp =
  (then: (response: ServerResponse, reply: { status: number; body: string }) => void) =>
  (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url === SOCKET) {
      response.writeHead(404).end();
      return;
    }
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", async () => {
      const { "x-rootstock-replica-token": token = "" } = request.headers;
      const headers = { "content-type": "application/json", "x-rootstock-replica-token": String(token) };
      const body = Buffer.concat(chunks);
      const reply = await fetch(`${owner.url}${request.url}`, { method: "POST", headers, body });
      then(response, { status: reply.status, body: await reply.text() });
    });
  };

test("an owner that takes no socket for calls is asked in HTTP, and dialled no more", async () => {
  const called = await standIn(
    relayingHttp((response, { status, body }) =>
      response.writeHead(status, { "content-type": "application/json" }).end(body),
    ),
  );
  await expectStoppedOnce(await stop());
  const [row] = await rows();
  expect([await nameOf(row?.accepted_by), await nameOf(row?.claimed_by)]).toEqual([entry.name, owner.name]);
  expect((await stop()).status).toBe(200);
  expect(called.slice(0, 2)).toEqual([SOCKET, HTTP]);
  expect(new Set(called.slice(2))).toEqual(new Set([HTTP]));
});

test("what is not the owner any more says so, and the new one stops the agent", async () => {
  const called = await standIn((_, response) => response.writeHead(409).end());
  await expectStoppedOnce(await stop());
  expect(called).toEqual([SOCKET, HTTP]);
});

test("an answer in HTTP that is lost on its way is read from the row: nothing is done twice", async () => {
  await standIn(
    relayingHttp((response, { status }) => {
      expect(status).toBe(200);
      response.destroy();
    }),
  );
  await expectStoppedOnce(await stop());
});

test("a socket that is cut before the answer comes through: nothing is done twice, and the next stop dials anew", async () => {
  const dialled = await cutBeforeFirstAnswer();
  await expectStoppedOnce(await stop());
  expect(await answeredBySocket(200)).toBe(1);
  expect((await stop()).status).toBe(200);
  expect(await answeredBySocket(200)).toBe(2);
  expect(dialled()).toBe(2);
});

test("an owner whose place another has taken is not asked: tokens are for one instance, and the row goes its way", async () => {
  const other = await scene.replica();
  await scene.database.query(
    "update hub_replicas set internal_url = $1 where instance_id in (select connected_hub_id from runtime_brokers)",
    [other.url],
  );
  await expectStoppedOnce(await stop());
  const [row] = await rows();
  expect(await nameOf(row?.claimed_by)).toBe(owner.name);
  expect(await answeredBySocket(200)).toBe(0);
});

test("a container that takes its time is not held against the owner: its end is told, and the next stop is asked for again", async () => {
  runtimeBroker.holdAnswers();
  const slow = stop();
  await eventually(async () => (await answeredBySocket(409)) === 1);
  runtimeBroker.releaseAnswers();
  await expectStoppedOnce(await slow);
  expect(await answeredBySocket(200)).toBe(0);
  expect((await stop()).status).toBe(200);
  expect(await answeredBySocket(200)).toBe(1);
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
