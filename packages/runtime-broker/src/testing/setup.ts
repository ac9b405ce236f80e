import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Base, systemClock, systemRandom } from "@rootstock/service";
import { noteSecretsOfEnvironment, recordFiles, testLog } from "@rootstock/testkit";
import { loadRuntimeBrokerConfig, type RuntimeBrokerConfig, type RuntimeBrokerOption } from "../config.ts";
import { RuntimeBroker } from "../runtimeBroker.ts";
import { sessionFile } from "../runtimes/process/hostProtocol.ts";
import { FakeHub, type FakeSession } from "./fakeHub.ts";

export const PROJECT = "11111111-2222-4333-8444-555555555555";

export const testBase = (): Base => ({ clock: systemClock, random: systemRandom, log: testLog() });

/** A state directory of its own, and how to leave nothing behind: neither files nor sessions. */
export const makeStateDirectory = async (): Promise<{
  path: string;
  /** Kills every session, as a machine that runs out of memory might. */
  endSessions: () => Promise<void>;
  clean: () => Promise<void>;
}> => {
  const path = await mkdtemp(join(tmpdir(), "rb-"));
  const endSessions = async () => {
    const agents = join(path, "agents");
    for (const key of await readdir(agents).catch(() => [])) await killSession(join(agents, key));
  };
  return {
    path,
    endSessions,
    clean: async () => {
      await endSessions();
      recordFiles(path, ["host.log"]);
      await rm(path, { recursive: true, force: true, maxRetries: 5 });
    },
  };
};

const killSession = async (directory: string): Promise<void> => {
  const text = await readFile(join(directory, "session.json"), "utf8").catch(() => "");
  if (text === "") return;
  const { hostPid, pid } = sessionFile.parse(JSON.parse(text));
  for (const target of [hostPid, -pid]) {
    try {
      process.kill(target, "SIGKILL");
    } catch {
      // Ended by itself.
    }
  }
};

export interface Joined {
  readonly hub: FakeHub;
  readonly broker: RuntimeBroker;
  readonly session: FakeSession;
  readonly config: RuntimeBrokerConfig;
  readonly stateDirectory: string;
  /** Another runtime broker on the same state, as after a restart. */
  restart(): Promise<{ broker: RuntimeBroker; session: FakeSession }>;
  stop(): Promise<void>;
}

/** A runtime broker that has joined a fake hub and is connected. */
export const joinedBroker = async (
  overrides: Partial<Record<RuntimeBrokerOption, string>> = {},
  options: { readonly base?: Base; readonly hub?: FakeHub; readonly env?: Record<string, string> } = {},
): Promise<Joined> => {
  const hub = options.hub ?? new FakeHub();
  if (hub.url === "") await hub.start();
  const state = await makeStateDirectory();
  const env = { PATH: process.env.PATH ?? "", ...options.env };
  noteSecretsOfEnvironment(env);
  const config = loadRuntimeBrokerConfig(env, {
    hubUrl: hub.url,
    stateDirectory: state.path,
    stopGraceSeconds: "5",
    ...hub.invite(),
    ...overrides,
  });
  const start = async () => {
    const broker = new RuntimeBroker(options.base ?? testBase(), config);
    const connected = hub.connected.next();
    await broker.start();
    return { broker, session: await connected };
  };
  let current = await start();
  const { broker, session } = current;
  return {
    hub,
    broker,
    session,
    config,
    stateDirectory: state.path,
    restart: async () => {
      await current.broker.stop();
      current = await start();
      return current;
    },
    stop: async () => {
      await current.broker.stop();
      await state.clean();
      await hub.stop();
    },
  };
};

/** The body of a create call. */
export const createBody = (slug: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  requestId: systemRandom.uuid(),
  id: systemRandom.uuid(),
  slug,
  name: slug,
  projectId: PROJECT,
  projectSlug: "demo",
  agentToken: "agent-token-1-7f3c",
  config: {},
  ...more,
});

/** The body of a message call. */
export const messageBody = (msg: string, messageId?: string, more: Record<string, unknown> = {}) => ({
  interrupt: false,
  project_id: PROJECT,
  ...(messageId && { message_id: messageId }),
  structured_message: {
    version: 1,
    timestamp: "2026-11-21T02:20:48Z",
    sender: "user:Development User",
    recipient: "agent:a1",
    msg,
    type: "instruction",
    ...more,
  },
});

export const query = `projectId=${PROJECT}`;
