import { api } from "./api.ts";
import { eventually } from "./eventually.ts";
import { type InProcessReplica, type Replica, type ReplicaOptions, startReplica, TEST_TOKEN } from "./replicas.ts";
import {
  joinRuntimeBroker,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  type SimulatedRuntimeBrokerOptions,
} from "./simulatedRuntimeBroker/index.ts";
import { createTestDatabase, type TestDatabase } from "./testDatabase.ts";

/** Replicas on one database, a project, and runtime brokers as a test wants them. Everything it starts, it stops. */
export class Scene {
  readonly database: TestDatabase;
  readonly #ends: (() => Promise<void>)[] = [];
  #names = 0;

  private constructor(database: TestDatabase) {
    this.database = database;
  }

  /** On a database of its own unless one is given. */
  static async create(database?: TestDatabase): Promise<Scene> {
    return new Scene(database ?? (await createTestDatabase()));
  }

  /** Starts a replica in this process. `over`: another way to the database, for one. */
  async replica(
    env: Readonly<Record<string, string>> = {},
    over: Partial<ReplicaOptions> = {},
  ): Promise<InProcessReplica> {
    this.#names += 1;
    const replica = await startReplica({
      databaseUrl: this.database.url,
      name: `replica-${this.#names}`,
      env,
      ...over,
    });
    this.#ends.push(() => replica.stop());
    return replica;
  }

  /** Has `end` called when the scene ends. */
  onEnd(end: () => Promise<void>): void {
    this.#ends.push(end);
  }

  /** Registers a runtime broker and connects it to `replica`. */
  async runtimeBroker(
    replica: Replica,
    options: Partial<SimulatedRuntimeBrokerOptions> & { readonly name?: string } = {},
  ): Promise<SimulatedRuntimeBroker & { readonly id: string }> {
    this.#names += 1;
    const credentials = await this.join(replica, options.name ?? `runtime-broker-${this.#names}`);
    return this.connect(replica, credentials, options);
  }

  join(replica: Replica, name: string): Promise<SimulatedCredentials> {
    return joinRuntimeBroker({ hubUrl: replica.url, token: TEST_TOKEN, name, autoProvide: true });
  }

  async connect(
    replica: Replica,
    credentials: SimulatedCredentials,
    options: Partial<SimulatedRuntimeBrokerOptions> = {},
  ): Promise<SimulatedRuntimeBroker & { readonly id: string }> {
    const runtimeBroker = new SimulatedRuntimeBroker({
      hubUrl: replica.url,
      credentials,
      firstRetryMs: 50,
      like: "rootstock",
      ...options,
    });
    this.#ends.push(() => runtimeBroker.stop());
    await runtimeBroker.connect();
    return Object.assign(runtimeBroker, { id: credentials.brokerId });
  }

  /** A project of the development user. */
  async project(replica: Replica, name = "demo"): Promise<string> {
    const made = await api(replica, "POST", "/api/v1/projects", { name });
    if (made.status !== 201) throw new Error(`project not created: ${made.body}`);
    return made.text("id");
  }

  /** A running agent that has reported an activity, so that it takes messages. Returns its id. */
  async agent(replica: Replica, projectId: string, name: string, runtimeBrokerId?: string): Promise<string> {
    const made = await api(replica, "POST", `/api/v1/projects/${projectId}/agents`, {
      name,
      task: "wait",
      ...(runtimeBrokerId && { runtimeBrokerId }),
    });
    if (made.status !== 201) throw new Error(`agent not created: ${made.status} ${made.body}`);
    const id = made.text("agent.id");
    await this.ready(replica, id);
    return id;
  }

  /** Has the agent report that it works, as the tool in its container does. */
  async ready(replica: Replica, agentId: string): Promise<void> {
    await this.database.query("update agents set ready_at = now() where id = $1 and phase = 'running'", [agentId]);
    await eventually(async () => {
      const agent = await api(replica, "GET", `/api/v1/agents/${agentId}`);
      return agent.get("phase") === "running";
    });
  }

  /** Stops everything in reverse and drops the database. */
  async end(): Promise<void> {
    for (const end of this.#ends.reverse()) await end();
    await this.database.drop();
  }
}
