import { systemClock, systemRandom } from "@rootstock/service";
import type { TestDatabase } from "./testDatabase.ts";

type Values = Readonly<Record<string, unknown>>;

/**
 * Writes rows straight into a test's database, with what the schema demands filled in; `over` overrides or adds
 * columns. Each returns the row's id.
 */
export interface Seed {
  project(over?: Values): Promise<string>;
  runtimeBroker(over?: Values): Promise<string>;
  agent(over: Values & { readonly project_id: string }): Promise<string>;
  message(over: Values & { readonly project_id: string }): Promise<string>;
  dispatch(over: Values & { readonly runtime_broker_id: string }): Promise<string>;
  replica(over?: Values): Promise<string>;
}

/** A function that writes rows into `db`. */
export const seed = (db: TestDatabase): Seed => {
  let count = 0;
  const insert = async (table: string, values: Values): Promise<void> => {
    const columns = Object.keys(values);
    const places = columns.map((_, i) => `$${i + 1}`);
    await db.query(`insert into ${table} (${columns.join(", ")}) values (${places.join(", ")})`, Object.values(values));
  };
  const row = async (table: string, defaults: (id: string, n: number) => Values, over: Values = {}) => {
    count += 1;
    const values: Values = { ...defaults(systemRandom.uuid(), count), ...over };
    await insert(table, values);
    return String(values.id ?? values.instance_id);
  };
  return {
    project: (over) => row("projects", (id, n) => ({ id, name: `project ${n}`, slug: `project-${n}` }), over),
    runtimeBroker: (over) => row("runtime_brokers", (id, n) => ({ id, name: `rb-${n}`, slug: `rb-${n}` }), over),
    agent: (over) => row("agents", (id, n) => ({ id, name: `agent-${n}`, slug: `agent-${n}` }), over),
    message: (over) =>
      row(
        "messages",
        (id, n) => ({ id, sender: "user:someone", recipient: "agent:someone", msg: `message ${n}` }),
        over,
      ),
    dispatch: (over) =>
      row("broker_dispatch", (id) => ({ id, op: "stop", deadline_at: new Date(systemClock.now() + 60_000) }), over),
    replica: (over) =>
      row(
        "hub_replicas",
        (id, n) => ({
          instance_id: id,
          lock_key: String(2n ** 40n + BigInt(n)),
          name: `replica-${n}`,
          version: "0.1.0",
        }),
        over,
      ),
  };
};
