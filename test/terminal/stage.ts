import { afterAll, afterEach, beforeAll } from "@jest/globals";
import {
  type AttachOptions,
  AttachRefused,
  type InProcessReplica,
  type Replica,
  type ReplicaProcess,
  Scene,
  type SimulatedRuntimeBrokerOptions,
  SimulatedTerminals,
  startReplicaProcess,
  TerminalClient,
} from "@rootstock/testkit";

/** Ways to a runtime broker that hangs on `owner`: there, through another replica, and through the database. */
export const WAYS = ["owner", "entry", "detour"] as const;
export type Way = (typeof WAYS)[number];

export const MIB = 1_048_576;

type RuntimeBroker = Awaited<ReturnType<Scene["runtimeBroker"]>>;

/** An agent on a runtime broker of its own. */
export interface AgentOnStage {
  readonly agent: string;
  readonly terminals: SimulatedTerminals;
  readonly runtimeBroker: RuntimeBroker;
}

export interface Stage extends AgentOnStage {
  readonly owner: InProcessReplica;
  readonly entry: InProcessReplica;
  /** A replica that reaches the owner through the database only. */
  readonly detour: InProcessReplica;
}

/** A runtime broker on `owner` and an agent on it, made through `entry`. */
export const agentOn = async (
  scene: Scene,
  owner: Replica,
  entry: Replica,
  options: Partial<SimulatedRuntimeBrokerOptions> = {},
): Promise<AgentOnStage> => {
  const runtimeBroker = await scene.runtimeBroker(owner, options);
  const project = await scene.project(entry, `project-${runtimeBroker.id}`);
  const terminals = new SimulatedTerminals(runtimeBroker, { credits: options.like !== "unmodified" });
  const agent = await scene.agent(entry, project, "a1", runtimeBroker.id);
  return { agent, terminals, runtimeBroker };
};

/** Three replicas for all tests of a file, and a runtime broker with an agent for each test that asks. */
export class Stages {
  #scene: Scene | undefined;
  #replicas: Pick<Stage, Way> | undefined;
  #clients: TerminalClient[] = [];
  #runtimeBrokers: RuntimeBroker[] = [];

  /** To be made at the top of a test file: it adds the hooks. */
  constructor(env: Readonly<Record<string, string>> = {}) {
    beforeAll(async () => {
      const scene = await Scene.create();
      this.#scene = scene;
      this.#replicas = {
        owner: await scene.replica(env),
        entry: await scene.replica(env),
        detour: await scene.replica({ ...env, ROOTSTOCK_STREAM_RELAY: "postgres" }),
      };
    });
    afterEach(async () => {
      for (const client of this.#clients.splice(0)) client.cut();
      for (const runtimeBroker of this.#runtimeBrokers.splice(0)) await runtimeBroker.stop();
    });
    afterAll(() => this.#scene?.end());
  }

  get scene(): Scene {
    if (!this.#scene) throw new Error("the scene is not set yet");
    return this.#scene;
  }

  get replicas(): Pick<Stage, Way> {
    if (!this.#replicas) throw new Error("the scene is not set yet");
    return this.#replicas;
  }

  async stage(options: Partial<SimulatedRuntimeBrokerOptions> = {}): Promise<Stage> {
    const { owner, entry } = this.replicas;
    const made = await agentOn(this.scene, owner, entry, options);
    this.#runtimeBrokers.push(made.runtimeBroker);
    return { ...this.replicas, ...made };
  }

  async attach(replica: Replica, agent: string, options: AttachOptions = {}): Promise<TerminalClient> {
    const client = await TerminalClient.attach(replica, agent, options);
    this.#clients.push(client);
    return client;
  }
}

/** How an upgrade was refused. */
export const refusal = async (replica: Replica, agent: string, options: AttachOptions = {}): Promise<AttachRefused> => {
  const outcome = await TerminalClient.attach(replica, agent, options).catch((err: unknown) => err);
  if (!(outcome instanceof AttachRefused)) throw new Error("the upgrade was not refused");
  return outcome;
};

/** A replica in a process of its own, killed when the scene ends. */
export const replicaProcess = async (
  scene: Scene,
  name: string,
  env: Readonly<Record<string, string>> = {},
): Promise<ReplicaProcess> => {
  const replica = await startReplicaProcess({ databaseUrl: scene.database.url, name, env });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  return replica;
};
