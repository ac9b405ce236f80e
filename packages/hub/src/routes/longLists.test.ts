import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import type { Db } from "@rootstock/store";
import { NOBODY, type Principal } from "../auth/index.ts";
import { readLongList } from "./longLists.ts";
import {
  ADMIN,
  at,
  listAt,
  makeAgent,
  makePerson,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

let hub: TestHub;
let project: string;
let agent: string;
let counts = 0;
/** What happens while somebody waits for a count, before it and after it. */
let before: () => Promise<unknown>;
let after: () => Promise<unknown>;
const exactCounts = {
  of: async (_: unknown, count: (db: Db) => Promise<number>): Promise<number> => {
    counts += 1;
    await before();
    const total = await count(hub.database.db);
    await after();
    return total;
  },
};
beforeAll(async () => {
  hub = await startTestHub([], { exactCounts });
  project = await makeProject(hub, ADMIN, "talk");
  agent = await makeAgent(hub, project, "a1", await makeRuntimeBroker(hub, "devbox"));
});
afterAll(() => hub.stop());
beforeEach(() => {
  counts = 0;
  before = async () => {};
  after = async () => {};
});

const alice = member("alice");
const write = (n: number, text: string) =>
  hub.test.query(
    `insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg, type)
     select gen_random_uuid(), $1, $2, 'agent:a', $2, 'user:x', $3, $4, 'instruction' from generate_series(1, $5)`,
    [project, agent, alice.id, text, n],
  );
const erase = () => hub.test.query("delete from messages");
const inbox = async (query: string) => (await hub.as(alice).get(`/api/v1/messages?${query}`)).body;

test("all are counted before those of the page are read: nobody waits with a page in hand", async () => {
  await erase();
  await write(600, "old");
  after = () => write(1, "new");
  const body = await inbox("limit=2&totalCount=exact");
  expect([counts, at(body, "totalCount")]).toEqual([1, 600]);
  expect(body).not.toHaveProperty("totalCountApproximate");
  expect(listAt(body, "items").map((m) => textAt(m, "msg"))).toEqual(["new", "old"]);
});

test("a total is never less than what its page shows, nor than that there is a next one", async () => {
  await erase();
  await write(600, "old");
  before = erase;
  after = () => write(3, "new");
  const body = await inbox("limit=2&totalCount=exact");
  expect([listAt(body, "items").length, at(body, "totalCount")]).toEqual([2, 3]);
  await write(600, "again");
  after = () => write(1, "alone");
  expect(at(await inbox("limit=2&totalCount=exact"), "totalCount")).toBe(1);
});

test("what is short, or asked for without its last row, waits for nobody; nor does a cursor that is none", async () => {
  await erase();
  await write(500, "few");
  expect(at(await inbox("limit=2&totalCount=exact"), "totalCount")).toBe(500);
  await write(100, "more");
  expect(at(await inbox("limit=2&totalCount=estimated"), "totalCountApproximate")).toBe(true);
  expect(at(await inbox("limit=2"), "totalCountApproximate")).toBe(true);
  const bad = await inbox("limit=2&totalCount=exact&cursor=nonsense");
  expect(at(bad, "error", "code")).toBe("invalid_cursor");
  expect(counts).toBe(0);
});

test("who loses a right while their list is counted sees nothing by it", async () => {
  const bob = await makePerson(hub, "bob");
  const left = await makeProject(hub, ADMIN, "left");
  const members = `/api/v1/groups/${encodeURIComponent("project:left:members")}/members`;
  const join = async () => {
    const joined = await hub.as(ADMIN).send("POST", members, { memberType: "user", memberId: bob.id });
    expect(joined.status).toBe(201);
  };
  const leave = async () => {
    const gone = await hub.as(ADMIN).send("DELETE", `${members}/user/${bob.id}`);
    expect(gone.status).toBeLessThan(300);
  };
  await hub.test.query(
    `insert into agents (id, project_id, slug, name) select gen_random_uuid(), $1, 's' || n, 's' || n
       from generate_series(1, 600) n`,
    [left],
  );
  await join();
  const own = `/api/v1/projects/${left}/agents?limit=5&totalCount=exact`;
  const all = "/api/v1/agents?limit=5&totalCount=exact";
  for (const path of [own, all]) {
    const { body } = await hub.as(bob).get(path);
    expect([listAt(body, "agents").length, at(body, "totalCount")]).toEqual([5, 600]);
  }
  after = leave;
  expect((await hub.as(bob).get(own)).status).toBe(404);
  await join();
  const { body } = await hub.as(bob).get(all);
  expect([listAt(body, "agents"), at(body, "totalCount")]).toEqual([[], 0]);
  expect(counts).toBe(4);
});

test("who is signed out while their list is counted is refused; a runtime broker's signature is not looked at twice", async () => {
  const list = (principal: Principal) => ({
    list: "things",
    filters: {},
    given: {},
    sizes: { usual: 1, max: 1, first: 1 },
    rows: async () => [],
    position: async () => undefined,
    usual: async () => ({ total: 1_000, approximate: true }),
    all: async () => 1_000,
    principal,
  });
  const ask = (principal: Principal, now: Principal) =>
    readLongList(
      exactCounts,
      {
        principal,
        reauthenticate: async () => now,
        query: { totalCount: "exact" },
        signal: () => new AbortController().signal,
      },
      async (p) => list(p),
    );
  await expect(ask(alice, NOBODY)).rejects.toMatchObject({ status: 401 });
  const demoted = { ...ADMIN, role: "viewer" } as const;
  expect((await ask(ADMIN, demoted)).list.principal).toEqual(demoted);
  const machine: Principal = { kind: "runtimeBroker", id: alice.id };
  expect((await ask(machine, NOBODY)).list.principal).toEqual(machine);
});
