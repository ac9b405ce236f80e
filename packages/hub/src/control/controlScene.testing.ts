import { afterEach, beforeEach } from "@jest/globals";
import { type Clock, systemClock, systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  eventually,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  type SimulatedRuntimeBrokerOptions,
  type TestDatabase,
  testLog,
} from "@rootstock/testkit";
import { type ControlPlane, seedRuntimeBroker, startControlPlane } from "./controlPlane.testing.ts";
import type { Connection, ControlOptions } from "./index.ts";

/** A runtime broker with a control plane of its own. */
export interface Connected {
  readonly plane: ControlPlane;
  readonly credentials: SimulatedCredentials;
  readonly broker: SimulatedRuntimeBroker;
  /** The present connection. */
  readonly connection: () => Promise<Connection>;
}

/** A runtime broker's affinity as the database has it. */
export interface AffinityRow {
  readonly status: string;
  readonly hub: string | null;
  readonly session: string | null;
  readonly away: boolean;
}

/** Control planes on a database of each test's own, and runtime brokers that dial them; none of it outlives its test. */
export class ControlScene {
  #database: TestDatabase | undefined;
  #planes: ControlPlane[] = [];
  #dialling: SimulatedRuntimeBroker[] = [];

  /** To be made at the top of a test file: it adds the hooks. */
  constructor() {
    beforeEach(async () => {
      this.#database = await createTestDatabase();
    });
    afterEach(async () => {
      await Promise.all(this.#dialling.splice(0).map((s) => s.stop()));
      await Promise.all(this.#planes.splice(0).map((p) => p.stop()));
      await this.#database?.drop();
    });
  }

  get database(): TestDatabase {
    if (!this.#database) throw new Error("the scene is not set yet");
    return this.#database;
  }

  readonly plane = async (options: Partial<ControlOptions> = {}, clock: Clock = systemClock): Promise<ControlPlane> => {
    const base = { clock, random: systemRandom, log: testLog() };
    const started = await startControlPlane(this.database, options, base);
    this.#planes.push(started);
    return started;
  };

  /** A runtime broker that will dial once it is told to connect. */
  readonly dial = (
    credentials: SimulatedCredentials,
    hubUrl: string | (() => string),
    options: Partial<SimulatedRuntimeBrokerOptions> = {},
  ): SimulatedRuntimeBroker => {
    const broker = new SimulatedRuntimeBroker({ hubUrl, credentials, firstRetryMs: 20, ...options });
    this.#dialling.push(broker);
    return broker;
  };

  readonly rowOf = async (id: string): Promise<AffinityRow> => {
    const [row] = await this.database.query<AffinityRow & Record<string, unknown>>(
      `select status, connected_hub_id as hub, connected_session_id as session, disconnected_at is not null as away
       from runtime_brokers where id = $1`,
      [id],
    );
    if (!row) throw new Error("no row");
    return row;
  };

  /** A runtime broker that is connected to a control plane of its own. */
  readonly connected = async (
    options: Partial<SimulatedRuntimeBrokerOptions> = {},
    control: Partial<ControlOptions> = {},
    clock: Clock = systemClock,
  ): Promise<Connected> => {
    const plane = await this.plane(control, clock);
    const credentials = await seedRuntimeBroker(plane, `machine-${this.#planes.length}`);
    const broker = this.dial(credentials, plane.url, options);
    await broker.connect();
    return { plane, credentials, broker, connection: () => ready(plane, credentials.brokerId) };
  };

  /** Another machine on the same control plane, which dials once. */
  readonly dialAnother = async (plane: ControlPlane): Promise<SimulatedRuntimeBroker> => {
    const credentials = await seedRuntimeBroker(plane, "another");
    const broker = this.dial(credentials, plane.url, { redials: false });
    await broker.connect();
    await ready(plane, credentials.brokerId);
    return broker;
  };
}

/** The runtime broker's connection, once it is there. */
export const ready = (at: ControlPlane, id: string): Promise<Connection> =>
  eventually(() => {
    const connection = at.registry.get(id);
    if (!connection) throw new Error("not connected");
    return connection;
  });

/** A message to an agent, as a request. */
export const message = (agent: string, text = "hello") => ({
  method: "POST",
  path: `/api/v1/agents/${agent}/message`,
  query: "projectId=p1",
  body: { structured_message: { msg: text } },
});
