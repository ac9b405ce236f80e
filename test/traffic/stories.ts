import type { Scene } from "@rootstock/testkit";
import { joinRuntimeBroker, TEST_TOKEN } from "@rootstock/testkit";
import { Replay } from "./replay.ts";
import { type Call, loadSteps } from "./steps.ts";

/** Flows that were recorded in one run, and what had happened before. */
export interface Story {
  readonly name: string;
  readonly flows: readonly string[];
  readonly given?: (replay: Replay) => Promise<void>;
}

interface World {
  readonly projectId: string;
  readonly name: string;
  readonly runtimeBrokerId: string;
  /** Recorded id by name. */
  readonly agents: Readonly<Record<string, string>>;
}

const ask = async (replay: Replay, call: Omit<Call, "kind" | "conn">): Promise<Record<string, unknown>> => {
  const response = await replay.send({ kind: "call", conn: "given", ...call });
  const text = await response.text();
  if (!response.ok) throw new Error(`${call.method} ${call.path} answered ${response.status}: ${text}`);
  return text === "" ? {} : JSON.parse(text);
};

/** A runtime broker, a project, and agents at work in it. */
const world = async (replay: Replay, { projectId, name, runtimeBrokerId, agents }: World): Promise<void> => {
  const credentials = await joinRuntimeBroker({
    hubUrl: replay.replica.url,
    token: TEST_TOKEN,
    name: "devbox",
    brokerId: runtimeBrokerId,
    autoProvide: true,
  });
  await replay.dial(credentials);
  const url = `https://git.example.org/o/${name}.git`;
  await ask(replay, {
    as: "user",
    method: "POST",
    path: "/api/v1/projects",
    body: {
      id: projectId,
      name,
      gitRemote: `git.example.org/o/${name}`,
      labels: { "scion.dev/clone-url": url, "scion.dev/source-url": url, "scion.dev/default-branch": "main" },
    },
  });
  for (const [slug, recorded] of Object.entries(agents)) await work(replay, projectId, slug, recorded);
};

/** An agent that has started, worked and finished its task. */
const work = async (replay: Replay, projectId: string, name: string, recorded: string): Promise<void> => {
  const made = await ask(replay, {
    as: "user",
    method: "POST",
    path: `/api/v1/projects/${projectId}/agents`,
    body: { name, task: "say hello", harnessConfig: "gemini" },
  });
  const { id } = made.agent as { id: string };
  replay.ids.learn(recorded, id);
  const report = (body: object) =>
    ask(replay, { as: "agent", agent: recorded, method: "POST", path: `/api/v1/agents/${recorded}/status`, body });
  await report({ phase: "running", activity: "working", message: "Agent started", startedAt: "2026-11-21T02:13:32Z" });
  if (name === "a1") await report({ activity: "completed", taskSummary: "done" });
};

const threeAtWork = (replay: Replay): Promise<void> =>
  world(replay, {
    projectId: "f8ff6467-eeb0-4168-895e-3e16732f561a",
    name: "smoke27184",
    runtimeBrokerId: "afebd3fd-5ca7-469e-b0a8-92b8bdae5d17",
    agents: {
      a1: "e17e3923-72b5-4ef0-b512-4c962c72adb8",
      a2: "ba0a2a81-141f-4ce5-9e95-100978f87ebb",
      b4: "64ba541e-6d8b-48eb-8e84-265231b5f4b5",
    },
  });

/** The recordings. Those of one story share their ids and follow each other in time. */
export const STORIES: readonly Story[] = [
  {
    name: "a new hub",
    flows: [
      "broker-join-and-connect",
      "hub-status",
      "project-create",
      "broker-provide",
      "agent-create-start",
      "agent-list",
      "message",
      "logs-look-exec",
      "notifications",
      "heartbeat",
      "delete-restore",
      "agent-start-stopped",
      "agent-tool-status",
      "sse-events",
      "message-broadcast",
      "message-variants",
      "message-outbound",
      "reset-auth",
      "env-gather",
      "message-channels-scheduled",
      "provision-only",
      "device-auth",
      "stop-all",
    ],
  },
  {
    name: "suspended and stopped",
    flows: ["stop-suspend-resume"],
    given: (replay) =>
      world(replay, {
        projectId: "f8ff6467-eeb0-4168-895e-3e16732f561a",
        name: "smoke27184",
        runtimeBrokerId: "afebd3fd-5ca7-469e-b0a8-92b8bdae5d17",
        agents: { a1: "e17e3923-72b5-4ef0-b512-4c962c72adb8" },
      }),
  },
  { name: "lost connections", flows: ["broker-redial"], given: threeAtWork },
  { name: "a hub that was away", flows: ["hub-restart"], given: threeAtWork },
  {
    name: "two replicas",
    flows: ["two-replicas"],
    given: (replay) =>
      world(replay, {
        projectId: "47428d08-af0e-43d2-9be6-78bf3571c44f",
        name: "smoke27923",
        runtimeBrokerId: "75deee0a-04c7-4ff4-9923-365ed098835f",
        agents: {},
      }),
  },
];

/** Plays a story on replicas of its own; `first` gets the first call. */
export const play = async (scene: Scene, story: Story, first: 0 | 1): Promise<Replay> => {
  const replay = new Replay(scene, loadSteps(story.flows), first);
  await replay.open();
  await replay.runtimeBroker.improvise(async () => story.given?.(replay));
  await replay.run();
  return replay;
};
