import { systemClock, systemRandom } from "@rootstock/service";
import type { TestDatabase } from "@rootstock/testkit";
import { testLog } from "@rootstock/testkit";
import { Idempotency } from "../actions/index.ts";
import { signInParts } from "../auth/authenticator.testing.ts";
import {
  AgentTokens,
  Authenticator,
  ReplicaTokens,
  RuntimeBrokerSecrets,
  RuntimeBrokerSignatures,
  SigningKeys,
} from "../auth/index.ts";
import { type ControlPlane, startControlPlane, TEST_SECRET } from "../control/controlPlane.testing.ts";
import { HeartbeatIntake } from "../control/index.ts";
import { createApp, HttpServer } from "../http/index.ts";
import { Metrics } from "../metrics/index.ts";
import { SecretBox } from "../secrets/index.ts";
import { NO_TRACING } from "../telemetry/index.ts";
import { brokerOnboardingRoutes } from "./brokerOnboarding.ts";
import { brokerPluginRoutes, type PluginDeps } from "./brokerPlugins.ts";
import type { ResourceDeps } from "./deps.ts";
import { heartbeatRoutes } from "./heartbeat.ts";
import { runtimeBrokerRoutes } from "./runtimeBrokers.ts";
import { UPGRADE_ROUTES } from "./upgrades.ts";

export const DEVELOPMENT_TOKEN = `scion_dev_${"ab".repeat(32)}`;

/** The runtime brokers' side of a replica on a real port: routes, authentication and control channel. */
export interface BrokerHub {
  readonly url: string;
  readonly plane: ControlPlane;
  readonly agentTokens: AgentTokens;
  stop(): Promise<void>;
}

export const startBrokerHub = async (
  test: TestDatabase,
  acceptMessage?: PluginDeps["acceptMessage"],
): Promise<BrokerHub> => {
  const base = { clock: systemClock, random: systemRandom, log: testLog() };
  const plane = await startControlPlane(test);
  const { db } = plane.database;
  const secrets = new RuntimeBrokerSecrets(
    new SecretBox({ secrets: [TEST_SECRET], clock: systemClock, random: systemRandom }),
    base,
  );
  const agentTokens = new AgentTokens([TEST_SECRET], base);
  const authenticator = new Authenticator({
    db,
    agentTokens,
    replicaTokens: new ReplicaTokens({
      secrets: [TEST_SECRET],
      signingKeys: new SigningKeys([TEST_SECRET]),
      instanceId: plane.instanceId,
      clock: base.clock,
      olderReplicas: () => false,
    }),
    signatures: new RuntimeBrokerSignatures(db, secrets, base.clock),
    ...signInParts(base, db),
    developmentToken: DEVELOPMENT_TOKEN,
    scrapeToken: undefined,
  });
  await authenticator.start();
  const changed = () => {
    plane.announced.changed += 1;
  };
  const heartbeats = new HeartbeatIntake(base, plane.database, { changed });
  const box = new SecretBox({ secrets: [TEST_SECRET], clock: systemClock, random: systemRandom });
  const idempotency = new Idempotency(base, { database: plane.database, box, finishers: () => ({}) });
  const once: ResourceDeps["once"] = (call, work) => idempotency.once(call, work);
  const deps = { denied: async () => {}, db, random: systemRandom, secrets, once, changed, heartbeats, acceptMessage };
  const app = createApp(base, {
    routes: [
      ...brokerOnboardingRoutes(deps),
      ...runtimeBrokerRoutes({ ...deps, forget: (id) => plane.registry.forget(id) }),
      ...heartbeatRoutes(deps),
      ...brokerPluginRoutes(deps),
    ],
    authenticate: (credentials) => authenticator.authenticate(credentials),
    publicUrl: undefined,
    trustsPeer: () => false,
    serving: () => true,
    keyed: (_call, handle) => handle(),
    tracing: NO_TRACING,
    metrics: new Metrics(),
    databaseSilentForMs: () => 0,
    draining: () => false,
  });
  const server = new HttpServer({
    host: "127.0.0.1",
    port: 0,
    app,
    upgrades: [{ handler: plane.channel, routes: UPGRADE_ROUTES.controlChannel }],
    log: base.log,
  });
  await server.start();
  const { host, port } = server.address();
  return {
    url: `http://${host}:${port}`,
    plane,
    agentTokens,
    stop: async () => {
      const stopped = server.stop();
      server.closeAll();
      await stopped;
      await heartbeats.stop();
      await plane.stop();
    },
  };
};

export interface Answered {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** A call with a bearer token (none when undefined); the JSON answer. */
export const callHub = async (
  hub: BrokerHub,
  method: string,
  path: string,
  body?: unknown,
  token: string | undefined = DEVELOPMENT_TOKEN,
): Promise<Answered> => {
  const response = await fetch(`${hub.url}${path}`, {
    method,
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
    ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? {} : JSON.parse(text) };
};
