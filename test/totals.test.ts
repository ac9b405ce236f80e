import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type ApiReply, api, type Replica, Scene, testLogin } from "@rootstock/testkit";

/** Totals of lists: whoever walks all pages finds as many rows as every page said there are, whatever they may read. */

/** So many rows beyond the page are counted for everybody. */
const COUNTED = 500;
const PAGE = 200;

interface Person {
  readonly id: string;
  readonly token: string;
}

let scene: Scene;
let hub: Replica;
const people: Record<string, Person> = {};
const one: { project: string; agent: string; group: string; agents: string } = {
  project: "",
  agent: "",
  group: "",
  agents: "",
};
let two = "";

const id = (name: string): string => people[name]?.id ?? "";
const as = (who: string, method: string, path: string, body?: unknown): Promise<ApiReply> =>
  api(hub, method, `/api/v1${path}`, body, { token: people[who]?.token ?? "" });

const signIn = async (name: string, role: "admin" | "member"): Promise<void> => {
  const login = await testLogin(hub, { email: `${name}@example.org`, role });
  people[name] = { id: login.text("user.id"), token: login.text("accessToken") };
};
const ruled = async (who: string, policy: object): Promise<void> => {
  const made = await as("root", "POST", "/policies", { ...policy, actions: ["read"], resourceType: "agent" });
  const bound = { principalType: "user", principalId: id(who) };
  expect((await as("root", "POST", `/policies/${made.text("id")}/bindings`, bound)).status).toBe(201);
};
const groupOf = async (project: string, type: string): Promise<string> => {
  const [group] = await scene.database.query<{ id: string }>(
    "select id from groups where project_id = $1 and group_type = $2",
    [project, type],
  );
  return group?.id ?? "";
};

/** 1,600 agents of the first project, a tenth deleted and three fifths cat's; 800 of the other. */
const AGENTS = `
  insert into agents (id, project_id, slug, name, phase, deleted_at, owner_id, created_by, ancestry, visibility, labels)
  select gen_random_uuid(), case when n <= 1600 then $1::uuid else $2::uuid end, 'a' || n, 'A' || n,
      case when n % 3 = 0 then 'running' else 'stopped' end, case when n % 10 = 0 then now() end, o.id, o.id, array[o.id],
      case when n % 50 = 7 then 'public' else 'private' end,
      case when n % 2 = 0 then '{"team": "even"}'::jsonb else '{}'::jsonb end
    from generate_series(1, 2400) n
    cross join lateral (select case when n > 1600 then $4::uuid when n % 5 < 3 then $5::uuid else $3::uuid end as id) o`;

/** To ann from agents of both projects, from ann to the agents, and to bob. Names of agents are in both projects. */
const MESSAGES = `
  insert into messages (id, project_id, agent_id, sender, sender_id, recipient, recipient_id, msg, type, state, read)
  select gen_random_uuid(), a.project_id, a.id, 'x', case when said then p.id else a.id end, 'y',
      case when said then a.id else p.id end, 'a line', case when n % 3 = 0 then 'state-change' else 'instruction' end,
      case when said then 'delivered' end, n % 2 = 0
    from generate_series(1, 4000) n
    cross join lateral (select n % 4 = 0 as said) s
    cross join lateral (select case when n % 11 = 0 then $2::uuid else $1::uuid end as id) p
    join (select id, project_id, row_number() over (order by slug, project_id) - 1 as place
            from agents where slug in ('echo', 'foxtrot')) a on a.place = (n / 4) % 4`;

const OTHERS: readonly (readonly [sql: string, ...people: string[]])[] = [
  [
    `insert into users (id, email, display_name, role, status, last_seen)
     select gen_random_uuid(), 'u' || n || '@example.org', 'User ' || n % 40, case when n % 7 = 0 then 'viewer' else 'member' end,
         case when n % 9 = 0 then 'suspended' else 'active' end, case when n % 2 = 0 then now() end
       from generate_series(1, 260) n`,
  ],
  [
    `insert into projects (id, name, slug, owner_id, created_by, visibility)
     select gen_random_uuid(), 'P' || n, 'p' || n, case when n % 2 = 0 then $1::uuid else $2::uuid end, $1::uuid,
         case when n % 5 = 0 then 'public' else 'private' end
       from generate_series(1, 130) n`,
    "ann",
    "bob",
  ],
  [
    `insert into groups (id, name, slug, owner_id) select gen_random_uuid(), 'G' || n, 'g' || n,
         case when n % 2 = 0 then $1::uuid end from generate_series(1, 130) n`,
    "cat",
  ],
  [
    `insert into policies (id, name, scope_type, actions, effect, resource_type)
     select gen_random_uuid(), 'policy ' || n, 'hub', '{read}', case when n % 2 = 0 then 'allow' else 'deny' end, 'template'
       from generate_series(1, 130) n`,
  ],
  [
    `insert into runtime_brokers (id, name, slug, disconnected_at)
     select gen_random_uuid(), 'm' || n, 'm' || n, now() from generate_series(1, 130) n`,
  ],
  [
    `insert into invites (id, code_hash, code_prefix, max_uses, expires_at)
     select gen_random_uuid(), sha256(n::text::bytea), 'p', 1, now() + n * interval '1 hour' from generate_series(-9, 120) n`,
  ],
  [
    `insert into allow_list (id, email) select gen_random_uuid(), 'l' || n || '@example.org' from generate_series(1, 130) n`,
  ],
  [
    `insert into access_tokens (id, user_id, project_id, name, prefix, token_hash, scopes, expires_at, revoked_at)
     select gen_random_uuid(), $1::uuid, p.id, 't' || n, 'p', sha256(n::text::bytea), '{agent:read}', now() + interval '1 day',
         case when n % 4 = 0 then now() end
       from generate_series(1, 40) n cross join (select id from projects where slug = 'first') p`,
    "ann",
  ],
  ["insert into auth_resets (id, finished_at) select gen_random_uuid(), now() from generate_series(1, 60) n"],
];

beforeAll(async () => {
  scene = await Scene.create();
  hub = await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_RATE_LIMITS: "off" });
  await signIn("root", "admin");
  for (const name of ["ann", "bob", "cat", "dee"]) await signIn(name, "member");
  one.project = (await as("ann", "POST", "/projects", { name: "first" })).text("id");
  two = (await as("bob", "POST", "/projects", { name: "second" })).text("id");
  one.group = await groupOf(one.project, "explicit");
  one.agents = await groupOf(one.project, "project_agents");
  const { query } = scene.database;
  await query(AGENTS, [one.project, two, id("ann"), id("bob"), id("cat")]);
  for (const [slug, project] of [
    ["echo", one.project],
    ["echo", two],
    ["foxtrot", one.project],
    ["foxtrot", two],
  ])
    await query(
      "insert into agents (id, project_id, slug, name, owner_id) values (gen_random_uuid(), $1, $2, $2, $3)",
      [project, slug, id("ann")],
    );
  const [echo] = await query<{ id: string }>("select id from agents where slug = 'echo' and project_id = $1", [
    one.project,
  ]);
  one.agent = echo?.id ?? "";
  await query(MESSAGES, [id("ann"), id("bob")]);
  for (const [sql, ...names] of OTHERS) await query(sql, names.map(id));
  await query(
    "insert into group_memberships (group_id, user_id, added_by) select $1, id, 'x' from users where email like 'u%@example.org'",
    [one.group],
  );
  await query("vacuum (analyze)");
  const joined = await as("ann", "POST", `/groups/${one.group}/members`, { memberType: "user", memberId: id("bob") });
  expect(joined.status).toBe(201);
  const made = await as("ann", "POST", "/auth/tokens", {
    name: "reader",
    projectId: one.project,
    scopes: ["agent:read", "agent:list", "project:read"],
  });
  // Of dee is nothing; policies show the agents of one label, but for those of one project.
  const labels = { team: "even" };
  await ruled("dee", { name: "even", scopeType: "hub", effect: "allow", conditions: { labels } });
  await ruled("dee", { name: "not theirs", scopeType: "project", scopeId: two, effect: "deny" });
  people.token = { id: id("ann"), token: made.text("token") };
}, 120_000);
afterAll(() => scene.end());

/** A list, its rows' name, and how many rows a page of this walk has. */
interface List {
  readonly path: string;
  readonly as: string;
  readonly limit: number;
}

const page = (who: string, { path, limit }: List, more: Readonly<Record<string, string>>): Promise<ApiReply> =>
  as(who, "GET", `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams({ limit: String(limit), ...more })}`);

/** Walks all pages: how many different rows there were, and what each page said there are. */
const walk = async (who: string, list: List, more: Readonly<Record<string, string>> = {}) => {
  const seen = new Set<unknown>();
  const totals: unknown[] = [];
  let rows = 0;
  let cursor: unknown;
  do {
    const answer = await page(who, list, { ...more, ...(typeof cursor === "string" && { cursor }) });
    if (answer.status !== 200) throw new Error(`${list.path}: ${answer.status} ${answer.body}`);
    const found = answer.list(list.as);
    cursor = answer.get("nextCursor");
    if (cursor !== undefined) expect(found).toHaveLength(list.limit);
    for (const row of found) seen.add(Reflect.get(row as object, "id") ?? Reflect.get(row as object, "memberId"));
    rows += found.length;
    totals.push(answer.get("totalCountApproximate") === undefined ? answer.get("totalCount") : "approximate");
  } while (cursor !== undefined);
  expect(seen.size).toBe(rows);
  return { rows, totals: [...new Set(totals)] };
};

/** What the usual answer may say of a list with so many rows. */
const honest = async (who: string, list: List, rows: number): Promise<void> => {
  for (const more of [{}, { totalCount: "estimated" }]) {
    const answer = await page(who, list, more);
    const total = Number(answer.get("totalCount"));
    if (rows <= list.limit + COUNTED) expect([answer.get("totalCountApproximate"), total]).toEqual([undefined, rows]);
    else {
      expect(answer.get("totalCountApproximate")).toBe(true);
      expect(total).toBeGreaterThan(list.limit + COUNTED);
    }
  }
};

describe("agents: the exact total is what all pages hold together, and the usual one says when it is none", () => {
  const FILTERS = [
    "",
    "phase=stopped",
    "includeDeleted=true",
    "scope=mine",
    "scope=shared",
    "mine=true",
    "label=team%3Deven",
  ];
  const EXPECTED: Readonly<Record<string, readonly number[]>> = {
    root: [2164, 1440, 2404, 0, 0, 0, 960],
    ann: [1444, 960, 1604, 644, 800, 1444, 640],
    dee: [640, 427, 800, 0, 0, 0, 640],
  };
  test.each(["root", "ann", "bob", "cat", "dee", "token"])(
    "%s",
    async (who) => {
      const paths = [
        ...(EXPECTED[who] ? FILTERS : ["", "includeDeleted=true", "scope=shared"]).map((filter) => `/agents?${filter}`),
        `/agents?projectId=${one.project}`,
        `/agents?ownerId=${id("cat")}`,
        `/projects/${one.project}/agents?phase=running`,
      ];
      const found: number[] = [];
      for (const path of paths) {
        // Whoever may not read a project has no list of it.
        if (path.startsWith("/projects") && ["cat", "dee"].includes(who)) continue;
        const list = { path, as: "agents", limit: PAGE };
        const { rows, totals } = await walk(who, list, { totalCount: "exact" });
        expect([path, totals]).toEqual([path, [rows]]);
        await honest(who, list, rows);
        found.push(rows);
      }
      if (EXPECTED[who]) expect(found.slice(0, FILTERS.length)).toEqual(EXPECTED[who]);
      // Every reader has something that others do not have.
      expect(found[0]).toBeGreaterThan(400);
    },
    60_000,
  );
});

test("messages: likewise, of all and of one agent, by its id and by a name that several have", async () => {
  for (const who of ["ann", "bob"])
    for (const path of [
      "/messages",
      "/messages?unread=true",
      `/messages?project=${one.project}`,
      `/messages?agent=${one.agent}`,
      "/messages?agent=echo",
      "/messages?agent=ECHO&type=state-change",
      "/messages?type=state-change&unread=true",
      `/agents/${one.agent}/messages`,
    ]) {
      if (who === "bob" && path.startsWith("/agents")) continue;
      const list = { path, as: "items", limit: 200 };
      const { rows, totals } = await walk(who, list, { totalCount: "exact" });
      expect([path, totals]).toEqual([path, [rows]]);
      await honest(who, list, rows);
      expect([path, rows > 20]).toEqual([path, true]);
    }
  const [{ n }] = (await scene.database.query(
    "select count(*)::int as n from messages where recipient_id = $1 and state is null",
    [id("ann")],
  )) as [{ n: number }];
  expect((await as("ann", "GET", "/messages?limit=10&totalCount=exact")).get("totalCount")).toBe(n);
  expect(n).toBeGreaterThan(2_500);
}, 60_000);

test("an estimate knows what the list is narrowed to: an agent by its name is not all that there is", async () => {
  const all = Number((await as("ann", "GET", "/messages?limit=10")).get("totalCount"));
  const named = await as("ann", "GET", "/messages?limit=10&agent=echo");
  expect(named.get("totalCountApproximate")).toBe(true);
  expect(Number(named.get("totalCount"))).toBeLessThan(all * 0.8);
});

test.each(["EXACT", "", "true", "approximate"])("totalCount=%s is refused, and the field is named", async (given) => {
  for (const path of ["/agents", `/projects/${one.project}/agents`, "/messages", `/agents/${one.agent}/messages`]) {
    const answer = await as("ann", "GET", `${path}?totalCount=${given}`);
    expect([path, answer.status, answer.get("error.details.field")]).toEqual([path, 400, "totalCount"]);
  }
});

test("every other list: the total is what all pages hold together, for everybody who may see it", async () => {
  const lists: readonly (readonly [path: string, as: string, ...readers: string[]])[] = [
    ["/users", "users", "root", "ann"],
    ["/users?sort=lastSeen", "users", "root", "ann"],
    ["/users?sort=name&dir=desc", "users", "root", "ann"],
    ["/users?status=suspended", "users", "root", "ann"],
    ["/users?role=viewer&search=user", "users", "root", "ann"],
    ["/projects", "projects", "root", "ann", "bob", "cat", "token"],
    ["/projects?visibility=public", "projects", "root", "ann", "bob", "cat"],
    ["/projects?scope=mine", "projects", "ann", "bob", "cat"],
    ["/projects?scope=shared", "projects", "ann", "bob", "cat"],
    [`/projects?ownerId=${id("bob")}`, "projects", "root", "ann", "bob"],
    ["/groups", "groups", "root", "ann", "bob", "cat"],
    ["/groups?groupType=explicit", "groups", "root", "ann", "bob", "cat"],
    [`/groups?ownerId=${id("cat")}`, "groups", "root", "ann", "cat"],
    [`/groups?projectId=${one.project}`, "groups", "root", "ann", "bob", "cat"],
    [`/groups/${one.group}/members`, "members", "root", "ann", "bob"],
    [`/groups/${one.agents}/members`, "members", "root", "ann"],
    ["/policies", "policies", "root"],
    ["/policies?effect=deny", "policies", "root"],
    ["/runtime-brokers", "brokers", "root", "ann", "cat"],
    ["/runtime-brokers?status=offline", "brokers", "root", "cat"],
    ["/admin/invites", "items", "root"],
    ["/admin/allow-list", "items", "root"],
    ["/admin/agents/reset-auth-all", "items", "root"],
    ["/auth/tokens", "items", "ann", "bob"],
  ];
  const walked = new Set<string>();
  for (const [path, name, ...readers] of lists)
    for (const who of readers) {
      const limit = path.startsWith("/groups/") && path.includes(one.agents) ? 200 : 25;
      const { rows, totals } = await walk(who, { path, as: name, limit });
      expect([path, who, totals]).toEqual([path, who, [rows]]);
      if (who === readers[0] && rows > limit) walked.add(path);
    }
  expect(walked.size).toBeGreaterThan(18);

  // No list of the API is left out: those above, those counted exactly for the asking, and those that are always empty.
  const document = await as("root", "GET", "/openapi.json");
  const counted = Object.entries(document.get("paths") as Record<string, { get?: { responses?: object } }>).flatMap(
    ([path, { get }]) => (JSON.stringify(get?.responses ?? {}).includes('"totalCount"') ? path : []),
  );
  const known = [
    ...lists.map(([path]) => path),
    "/agents",
    "/messages",
    "/agents/x/messages",
    "/projects/x/agents",
  ].map(
    (path) => `/api/v1${path.replace(/\?.*/, "").replace(/^(\/\w+\/)[^/]+(\/(?:members|messages|agents))$/, "$1{}$2")}`,
  );
  const EMPTY = ["/api/v1/templates", "/api/v1/harness-configs", "/api/v1/skills"];
  const missed = counted
    .map((path) => path.replace(/\{[^}]*\}/g, "{}"))
    .filter((path) => !path.startsWith("/api/v1/groves") && !known.includes(path) && !EMPTY.includes(path));
  expect(counted.length).toBeGreaterThan(12);
  expect(missed).toEqual([]);
}, 60_000);
