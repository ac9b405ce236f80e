import { systemRandom } from "@rootstock/service";
import { api, seed } from "@rootstock/testkit";
import { makeWorld, type World } from "../matrix/world.ts";
import { fuzzDocument } from "./document.ts";
import { identityOf, type Kind } from "./identities.ts";
import { startProxy } from "./proxy.ts";
import { fuzz } from "./schemathesis.ts";
import { Tally } from "./tally.ts";

export interface SliceOptions {
  readonly kind: Kind;
  readonly program: string;
  readonly folder: string;
  readonly seed: number;
  readonly examples: number;
}

export interface Slice {
  readonly tally: Tally;
  /** Whether the fuzzer has found nothing either. */
  readonly clean: boolean;
  readonly output: string;
}

const REPLICAS = 2;
const MANY = 24;
/** Fuzzing asks for more than anybody may, and 429 tells nothing of what stands behind it. */
const ENV = { ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_RATE_LIMITS: "off" };

/** One kind of principal in a world of its own: what it destroys is gone for nobody else. */
export const runSlice = async ({ kind, program, folder, seed: number, examples }: SliceOptions): Promise<Slice> => {
  const world = await makeWorld();
  const tally = new Tally();
  try {
    const replicas = await Promise.all(Array.from({ length: REPLICAS }, () => world.scene.replica(ENV)));
    const proxy = await startProxy(replicas, await identityOf(world, kind), tally);
    try {
      const document = (await api(world.replica, "GET", "/api/v1/openapi.json")).json as Readonly<
        Record<string, unknown>
      >;
      const found = await fuzz({
        program,
        folder,
        document: fuzzDocument(document, { ids: await idsOf(world, kind), oneOf: 12, turn: number }),
        url: proxy.url,
        seed: number,
        examples,
      });
      return { tally, ...found };
    } finally {
      await proxy.stop();
    }
  } finally {
    await world.scene.end();
  }
};

/** Many of each thing, since some are deleted on the way. */
const idsOf = async (world: World, kind: Kind): Promise<Readonly<Record<string, readonly string[]>>> => {
  const { scene, people, projectId, runtimeBrokers } = world;
  const rows = seed(scene.database);
  const own = { token: people.olga.accessToken };
  const many = async (make: (n: number) => Promise<string>): Promise<readonly string[]> => {
    const made: string[] = [];
    for (let n = 0; n < MANY; n += 1) made.push(await make(n));
    return made;
  };
  const agentIds = await many(async (n) => {
    const id = systemRandom.uuid();
    await rows.agent({
      id,
      project_id: projectId,
      slug: `agent-${n}`,
      name: `agent-${n}`,
      phase: n % 3 === 0 ? "running" : n % 3 === 1 ? "stopped" : "suspended",
      runtime_broker_id: n % 4 === 0 ? null : runtimeBrokers.runs.brokerId,
      owner_id: people.olga.id,
      created_by: people.olga.id,
      ancestry: [people.olga.id],
      ready_at: new Date(0),
      running_since: new Date(0),
    });
    return id;
  });
  const projectIds = await many(async (n) =>
    (await api(world.replica, "POST", "/api/v1/projects", { name: `project ${n}` }, own)).text("id"),
  );
  const { params } = world;
  // An agent that has deleted itself is nobody from then on.
  const others = Object.values(world.agents).filter(({ id }) => kind !== "agent" || id !== world.agents.scoped.id);
  const one = (name: string): readonly string[] => (params[name] === undefined ? [] : [params[name]]);
  return {
    ...Object.fromEntries(Object.keys(params).map((name) => [name, one(name)])),
    projectId: [projectId, projectId, projectId, ...projectIds],
    agentId: [...others.map(({ id }) => id), ...agentIds, "agent-1", "agent-2"],
    brokerId: Object.values(runtimeBrokers).map((r) => r.brokerId),
    userId: Object.values(people).map((p) => p.id),
  };
};
