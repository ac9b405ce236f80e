import { systemRandom } from "@rootstock/service";
import { type Database, type Db, ensureUser, insertAgent, insertRuntimeBroker, linkProvider } from "@rootstock/store";
import {
  checkedReplies,
  createTestStore,
  noteSecretsSent,
  noteSecretsTaken,
  type TestDatabase,
  testBase,
} from "@rootstock/testkit";
import { Idempotency } from "../actions/index.ts";
import {
  AccessFacts,
  AGENT_SCOPES,
  type AgentPrincipal,
  NOBODY,
  type Principal,
  type UserPrincipal,
} from "../auth/index.ts";
import { createApp } from "../http/app.ts";
import { ExactCounts } from "../limits/index.ts";
import { Metrics } from "../metrics/index.ts";
import { AgentConfigs, SecretBox } from "../secrets/index.ts";
import { NO_TRACING } from "../telemetry/index.ts";
import { notConfiguredRoutes } from "./notConfigured.ts";
import { type ResourceRouteDeps, resourceRoutes } from "./resources.ts";
import type { Route } from "./route.ts";

const BASE = testBase();
const PRINCIPAL_HEADER = "x-test-principal";

/** An answer, read. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

/** Calls of one principal. */
export interface Caller {
  get(path: string): Promise<Answer>;
  send(
    method: "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Answer>;
}

/** The resource routes over a database of their own, called as whoever a test likes. */
export interface TestHub {
  readonly database: Database;
  readonly test: TestDatabase;
  /** Calls of `deleteAgents` and `onAgentReady`, in order. */
  readonly calls: string[];
  /** How often the feed was told of a change. */
  changes: () => number;
  as(principal: Principal): Caller;
  stop(): Promise<void>;
}

export const startTestHub = async (
  more: readonly Route[] | ((db: Db) => readonly Route[]) = [],
  over: Partial<Pick<ResourceRouteDeps, "exactCounts">> = {},
): Promise<TestHub> => {
  const test = await createTestStore();
  const { database } = test;
  const box = new SecretBox({ secrets: ["a shared secret of at least 32 bytes"], ...BASE });
  const idempotency = new Idempotency(BASE, { database, box, finishers: () => ({}) });
  const access = new AccessFacts(BASE.clock, database.db);
  const calls: string[] = [];
  let changes = 0;
  const deps: ResourceRouteDeps = {
    db: database.db,
    random: BASE.random,
    agentConfigs: new AgentConfigs(BASE, { db: database.db, box, olderReplicas: () => false }),
    exactCounts: new ExactCounts({ db: database.db, clock: BASE.clock }),
    clock: BASE.clock,
    feedCursor: () => "cursor",
    changed: () => {
      changes += 1;
      access.forgetAll();
    },
    once: (call, work) => idempotency.once(call, work),
    deleteAgents: async (projectId) => void calls.push(`deleteAgents ${projectId}`),
    traceLimits: {
      messageSeconds: 604_800,
      softDeleteSeconds: 259_200,
      requestSeconds: 120,
      listensAfterSeconds: 15,
      overdueSeconds: 60,
    },
    onAgentReady: ({ id }) => void calls.push(`onAgentReady ${id}`),
    transportToken: async () => undefined,
    tokens: {
      issue: async (claims) => ({
        token: `token-of-${claims.agentId}-${claims.tokenVersion}`,
        expiresAt: new Date(BASE.clock.now() + 36_000_000),
      }),
    },
    ...over,
  };
  const app = createApp(BASE, {
    routes: [
      ...(typeof more === "function" ? more(database.db) : more),
      ...resourceRoutes(deps),
      ...notConfiguredRoutes(),
    ],
    authenticate: async ({ headers }) => {
      const given = headers.get(PRINCIPAL_HEADER);
      if (given === null) return NOBODY;
      const principal = JSON.parse(given) as Principal;
      // Whoever has signed in has an account, and is a hub member by it.
      if (principal.kind === "user") await ensureUser(database.db, { ...principal, role: "member" });
      return access.equip(principal, () => undefined);
    },
    publicUrl: undefined,
    trustsPeer: () => false,
    serving: () => true,
    keyed: (_call, handle) => handle(),
    tracing: NO_TRACING,
    metrics: new Metrics(),
    databaseSilentForMs: () => 0,
    draining: () => false,
    inspect: checkedReplies(),
  });
  return {
    database,
    test,
    calls,
    changes: () => changes,
    as: (principal) => {
      const send = async (
        method: string,
        path: string,
        body?: unknown,
        headers: Readonly<Record<string, string>> = {},
      ): Promise<Answer> => {
        const response = await app.request(path, {
          method,
          headers: {
            ...headers,
            ...(principal.kind !== "nobody" && { [PRINCIPAL_HEADER]: JSON.stringify(principal) }),
          },
          ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
        });
        const text = await response.text();
        noteSecretsSent({}, body);
        if (response.ok) noteSecretsTaken(body);
        return { status: response.status, headers: response.headers, body: text === "" ? undefined : parse(text) };
      };
      return { get: (path) => send("GET", path), send };
    },
    stop: () => test.drop(),
  };
};

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

/** A value inside a JSON answer; fails the test when the way there breaks off. */
export const at = (value: unknown, ...path: readonly (string | number)[]): unknown => {
  let here = value;
  for (const step of path) {
    if (typeof here !== "object" || here === null || !(step in here))
      throw new Error(`no ${path.join(".")} in ${JSON.stringify(value)}`);
    here = (here as Record<string | number, unknown>)[step];
  }
  return here;
};

/** A text inside a JSON answer. */
export const textAt = (value: unknown, ...path: readonly (string | number)[]): string => {
  const found = at(value, ...path);
  if (typeof found !== "string") throw new Error(`${path.join(".")} is no text in ${JSON.stringify(value)}`);
  return found;
};

/** A list inside a JSON answer. */
export const listAt = (value: unknown, ...path: readonly (string | number)[]): readonly unknown[] => {
  const found = at(value, ...path);
  if (!Array.isArray(found)) throw new Error(`${path.join(".")} is no list in ${JSON.stringify(value)}`);
  return found;
};

/** The field that a refusal names. */
export const fieldOf = (body: unknown): string => textAt(body, "error", "details", "field");

export const ADMIN: UserPrincipal = {
  kind: "user",
  id: "be67fbc9-c869-5d43-b15d-c28ca3e8d355",
  email: "dev@localhost",
  displayName: "Development User",
  role: "admin",
};

/** Somebody who is no admin. */
export const member = (name: string): UserPrincipal => ({
  kind: "user",
  id: systemRandom.uuid(),
  email: `${name}@example.org`,
  displayName: name,
  role: "member",
});

/** Somebody with an account. Their address is their own unless one is given. */
export const makePerson = async (
  hub: Pick<TestHub, "test">,
  name: string,
  more: {
    readonly email?: string;
    readonly role?: UserPrincipal["role"];
    readonly status?: "active" | "suspended";
    readonly lastSeen?: string | null;
  } = {},
): Promise<UserPrincipal> => {
  const id = systemRandom.uuid();
  const { email = `${name}-${id.slice(0, 8)}@example.org`, role = "member", status = "active", lastSeen = null } = more;
  await hub.test.query(
    "insert into users (id, email, display_name, role, status, last_seen) values ($1, $2, $3, $4, $5, $6::timestamptz)",
    [id, email, name, role, status, lastSeen],
  );
  return { kind: "user", id, email, displayName: name, role };
};

/** An agent as its token shows it, with the scopes that every agent gets. */
export const agentPrincipal = (
  id: string,
  projectId: string,
  scopes: readonly string[] = [AGENT_SCOPES.reportStatus, AGENT_SCOPES.refreshToken, AGENT_SCOPES.notify],
): AgentPrincipal => ({ kind: "agent", id, projectId, scopes, ancestry: [] });

/** A project that `by` creates. Returns its id. */
export const makeProject = async (
  hub: TestHub,
  by: Principal,
  name: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<string> => {
  const made = await hub.as(by).send("POST", "/api/v1/projects", { name, ...more });
  if (made.status !== 201) throw new Error(`project not made: ${JSON.stringify(made)}`);
  return textAt(made.body, "id");
};

/** A runtime broker that has registered. Returns its id. */
export const makeRuntimeBroker = async (
  hub: TestHub,
  name: string,
  options: { readonly createdBy?: string; readonly autoProvide?: boolean; readonly online?: boolean } = {},
): Promise<string> => {
  const id = systemRandom.uuid();
  await insertRuntimeBroker(hub.database.db, {
    id,
    name,
    slug: name,
    autoProvide: options.autoProvide ?? false,
    labels: {},
    createdBy: options.createdBy ?? ADMIN.id,
  });
  if (options.online !== false)
    await hub.test.query("update runtime_brokers set status = 'online' where id = $1", [id]);
  return id;
};

/** An agent in phase `created`, run by this runtime broker, which comes to serve its project. Returns its id. */
export const makeAgent = async (
  hub: TestHub,
  projectId: string,
  slug: string,
  runtimeBrokerId: string,
  options: { readonly owner?: string; readonly ancestry?: readonly string[] } = {},
): Promise<string> => {
  const id = systemRandom.uuid();
  await linkProvider(hub.database.db, { projectId, runtimeBrokerId, localPath: null, linkedBy: "agent-create" });
  await insertAgent(hub.database.db, {
    id,
    projectId,
    slug,
    template: "default",
    runtimeBrokerId,
    labels: {},
    annotations: {},
    appliedConfig: { harnessConfig: "gemini", harnessAuth: "api-key", task: "say hello" },
    image: null,
    createdBy: options.owner ?? ADMIN.id,
    ownerId: options.owner ?? ADMIN.id,
    ancestry: options.ancestry ?? [options.owner ?? ADMIN.id],
  });
  return id;
};
