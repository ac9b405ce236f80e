import { EVENT_SUBJECTS } from "@rootstock/hub";
import { api, eventually, seed } from "@rootstock/testkit";
import type { Caller } from "./callers.ts";
import type { Cell, Row } from "./table.ts";
import type { World } from "./world.ts";

/** What each caller hears of the event stream when something of every kind happens. */

type Kind = keyof typeof EVENT_SUBJECTS;

/** The subject under which what is made to happen is told. */
const patterns = ({ params, people }: World): Readonly<Record<Kind, RegExp>> => ({
  agent: new RegExp(`"agent\\.${params.agentId}\\.status"`),
  project: new RegExp(`"project\\.${params.projectId}\\.updated"`),
  provider: new RegExp(`"project\\.${params.projectId}\\.broker\\.status"`),
  runtime_broker: new RegExp(`"broker\\.${params.brokerId}\\.status"`),
  message: new RegExp(`"user\\.${people.olga.id}\\.message"`),
  user: new RegExp(`"user\\.${people.olga.id}\\.changed"`),
  allow_list: /"admin\.allowlist\.changed"/,
  invite: /"admin\.invite\.changed"/,
  maintenance: /"admin\.maintenance\.changed"/,
  access: /"access\.\w+\.changed"/,
  credential: /"credential\.[^"]*\.ended"/,
});

interface Listener {
  readonly status: number;
  readonly heard: () => string;
  readonly close: () => void;
}

const listen = async (world: World, caller: Caller): Promise<Listener> => {
  const gone = new AbortController();
  const query = "sub=%3E";
  const headers = await caller.headers({ method: "GET", path: "/events", query, body: new Uint8Array(0) });
  const response = await fetch(`${world.replica.url}/events?${query}`, { headers, signal: gone.signal });
  let text = "";
  if (!response.ok) await response.text();
  else
    void (async () => {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk;
    })().catch(() => {});
  if (response.ok) await eventually(() => text.includes("id:"));
  return { status: response.status, heard: () => text, close: () => gone.abort() };
};

/** Something of every kind, about what the world's paths name; then a word for everybody. */
const happen = async (world: World): Promise<void> => {
  const { query } = world.scene.database;
  const rows = seed(world.scene.database);
  const { projectId = "", agentId = "", brokerId = "" } = world.params;
  const { olga, val } = world.people;
  await query("update agents set task_summary = 'told', activity = 'thinking' where id = $1", [agentId]);
  const machine = await rows.runtimeBroker();
  await query("insert into project_providers (project_id, runtime_broker_id) values ($1, $2)", [projectId, machine]);
  await query("update runtime_brokers set status = 'degraded' where id = $1", [brokerId]);
  await rows.message({
    project_id: projectId,
    agent_id: agentId,
    sender_id: agentId,
    recipient: "user:olga",
    recipient_id: olga.id,
  });
  await api(world.replica, "POST", "/api/v1/admin/allow-list", { email: "told@example.org" });
  await api(world.replica, "POST", "/api/v1/admin/invites", { expiresIn: "1h", maxUses: 1 });
  await api(world.replica, "PUT", "/api/v1/admin/maintenance", { message: "told" });
  // A group of its own: nobody's rights change, or streams would be cut.
  await query("insert into groups (id, name, slug, project_id) values (gen_random_uuid(), 'told', 'told', $1)", [
    projectId,
  ]);
  // A sign-in of its own, for the same reason.
  await query(
    "insert into sign_ins (id, user_id, client, expires_at) values (gen_random_uuid(), $1, 'api', 'infinity')",
    [val.id],
  );
  await query("update sign_ins set ended_at = now() where expires_at = 'infinity'");
  await query('update projects set labels = \'{"told": "yes"}\'');
  await query("update users set display_name = display_name || '.' where id <> $1", [val.id]);
  await query("update users set display_name = display_name || '.' where id = $1", [val.id]);
};

/** A row per subject: `ok` for who hears it, `-` for who does not. */
export const hear = async (world: World, callers: readonly Caller[]): Promise<readonly Row[]> => {
  const listeners = await Promise.all(callers.map((caller) => listen(world, caller)));
  await happen(world);
  // The last that happened is told to everybody who hears anything: people of themselves, agents of their project.
  await eventually(
    () =>
      listeners.every(
        ({ status, heard }) => status !== 200 || /"(user\.[^"]*\.changed|project\.[^.]*\.updated)"/.test(heard()),
      ),
    10_000,
  );
  const seen = patterns(world);
  const rows = Object.entries(EVENT_SUBJECTS).map(([kind, route]): Row => {
    const cells = listeners.map(({ status, heard }): Cell => {
      if (status === 401 || status === 403 || status === 404) return `${status}`;
      return status === 200 ? (seen[kind as Kind].test(heard()) ? "ok" : "-") : "failed";
    });
    return { methods: route.method, route, cells };
  });
  for (const { close } of listeners) close();
  return rows;
};
