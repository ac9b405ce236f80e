import { createServer, type Server } from "node:http";
import { type Base, systemClock, systemRandom } from "@rootstock/service";
import { Database, insertRuntimeBroker, transaction } from "@rootstock/store";
import type { SimulatedCredentials, TestDatabase } from "@rootstock/testkit";
import { testLog } from "@rootstock/testkit";
import { RuntimeBrokerSecrets, RuntimeBrokerSignatures } from "../auth/index.ts";
import { SecretBox } from "../secrets/index.ts";
import { NO_TRACING } from "../telemetry/index.ts";
import { CONTROL_DEFAULTS, ControlChannel, type ControlOptions, Ownership, Registry, SocketProofs } from "./index.ts";

export const TEST_SECRET = "a shared secret of at least 32 bytes";

/** What a control plane announced to others. */
export interface Announced {
  changed: number;
  readonly done: string[];
}

/** The control channel of one replica on a real port, with nothing around it. */
export interface ControlPlane {
  readonly url: string;
  readonly instanceId: string;
  readonly registry: Registry;
  readonly channel: ControlChannel;
  readonly database: Database;
  readonly announced: Announced;
  /** What `mayClaim` answers. */
  mayClaim: boolean;
  /** Set: background work of the database waits for it. */
  gate: Promise<void> | undefined;
  /** Whether background work of the database fails. */
  failing: boolean;
  stop(): Promise<void>;
}

/** Starts the control channel of a replica. Its polls are the test's to make. */
export const startControlPlane = async (
  test: TestDatabase,
  options: Partial<ControlOptions> = {},
  base: Base = { clock: systemClock, random: systemRandom, log: testLog() },
): Promise<ControlPlane> => {
  const instanceId = systemRandom.uuid();
  const settings = { ...CONTROL_DEFAULTS, tickMs: 20, ...options };
  const database = new Database({
    url: test.url,
    pooled: false,
    poolSize: 10,
    applicationName: "test",
    ...base,
  });
  const announced: Announced = { changed: 0, done: [] };
  const plane = {
    instanceId,
    database,
    announced,
    mayClaim: true,
    gate: undefined as Promise<void> | undefined,
    failing: false,
  };
  const gated = {
    db: database.db,
    background: async <T>(work: () => Promise<T>): Promise<T> => {
      await plane.gate;
      if (plane.failing) throw new Error("the database is away");
      return database.background(work);
    },
  };
  const ownership = new Ownership(
    gated,
    { instanceId, mayClaim: () => plane.mayClaim },
    {
      changed: () => {
        announced.changed += 1;
      },
      done: (ids) => {
        announced.done.push(...ids);
      },
    },
    base,
  );
  const secrets = new RuntimeBrokerSecrets(new SecretBox({ secrets: [TEST_SECRET], ...base }), base);
  const registry = new Registry(base, ownership, {
    options: settings,
    signingKeys: async (id) => (await secrets.of(database.db, id)).map((s) => s.key),
    tracing: NO_TRACING,
  });
  const signatures = new RuntimeBrokerSignatures(database.db, secrets, base.clock);
  const proofs = new SocketProofs(base, { registry, secretsOf: (id) => secrets.of(database.db, id) });
  const channel = new ControlChannel(base, { registry, ownership, signatures, proofs, options: settings });
  const server = createServer((_, response) => response.writeHead(404).end());
  server.on("upgrade", (request, socket, head) => {
    if (channel.handles(request.url)) channel.handleUpgrade(request, socket, head);
    else socket.destroy();
  });
  await registry.start();
  return Object.assign(plane, {
    url: await listen(server),
    registry,
    channel,
    stop: async () => {
      await registry.stop();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      await database.stop();
    },
  });
};

const listen = (server: Server): Promise<string> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      if (typeof address === "object" && address) resolve(`http://127.0.0.1:${address.port}`);
      else reject(new Error("no port"));
    });
  });

/** A runtime broker's row with a secret, as a join leaves it. */
export const seedRuntimeBroker = async (plane: ControlPlane, name: string): Promise<SimulatedCredentials> => {
  const brokerId = systemRandom.uuid();
  const base = { random: systemRandom, log: testLog() };
  const secrets = new RuntimeBrokerSecrets(
    new SecretBox({ secrets: [TEST_SECRET], clock: systemClock, random: systemRandom }),
    base,
  );
  const { key } = await transaction(plane.database.db, async (tx) => {
    const createdBy = systemRandom.uuid();
    await insertRuntimeBroker(tx, { id: brokerId, name, slug: name, autoProvide: false, labels: {}, createdBy });
    return secrets.replace(tx, brokerId, 0);
  });
  return { brokerId, secretKey: key.toString("base64") };
};

/** A new secret in the place of the present one; standard base64. */
export const rotateSecret = async (plane: ControlPlane, runtimeBrokerId: string, graceMs: number): Promise<string> => {
  const base = { random: systemRandom, log: testLog() };
  const secrets = new RuntimeBrokerSecrets(
    new SecretBox({ secrets: [TEST_SECRET], clock: systemClock, random: systemRandom }),
    base,
  );
  const { key } = await transaction(plane.database.db, (tx) => secrets.replace(tx, runtimeBrokerId, graceMs));
  return key.toString("base64");
};
