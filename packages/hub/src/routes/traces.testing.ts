import { afterAll, beforeAll, beforeEach, expect } from "@jest/globals";
import type { Trace } from "@rootstock/protocol";
import { systemRandom } from "@rootstock/service";
import { insertDispatch, insertPendingMessages, type NewMessage, registerReplica } from "@rootstock/store";
import type { Principal } from "../auth/index.ts";
import {
  ADMIN,
  makeAgent,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
} from "./routes.testing.ts";

/** The owner of the stage's agent. */
export const OWNER = member("owner");

/**
 * One hub for all tests of a file; a project, a runtime broker and a running agent for each. Rows are moved by the
 * statements that replicas use: what they leave behind is what the trace is told from.
 */
export class TraceStage {
  #hub: TestHub | undefined;
  project = "";
  runtimeBroker = "";
  agent = "";
  /** The name of the project and of the runtime broker. */
  place = "";

  /** To be made at the top of a test file: it adds the hooks. */
  constructor() {
    beforeAll(async () => {
      this.#hub = await startTestHub();
    });
    afterAll(() => this.#hub?.stop());
    beforeEach(async () => {
      this.place = `p${systemRandom.uuid().slice(0, 8)}`;
      this.project = await makeProject(this.hub, ADMIN, this.place);
      this.runtimeBroker = await makeRuntimeBroker(this.hub, this.place);
      this.agent = await makeAgent(this.hub, this.project, "a1", this.runtimeBroker, { owner: OWNER.id });
      await this.query("update agents set phase = 'running', running_since = now(), ready_at = now() where id = $1", [
        this.agent,
      ]);
    });
  }

  get hub(): TestHub {
    if (!this.#hub) throw new Error("the hub is not started yet");
    return this.#hub;
  }

  get db() {
    return this.hub.database.db;
  }

  query<Row extends Record<string, unknown>>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return this.hub.test.query<Row>(text, [...values]);
  }

  async replica(name: string): Promise<string> {
    const instanceId = systemRandom.uuid();
    const lockKey = BigInt(systemRandom.bytes(6).readUIntBE(0, 6));
    await registerReplica(this.db, { instanceId, lockKey, name, internalUrl: null, version: "1", state: "serving" });
    return instanceId;
  }

  /** A socket of the runtime broker at this replica. */
  async connect(instanceId: string): Promise<string> {
    const sessionId = systemRandom.uuid();
    await this.query(
      `update runtime_brokers set connected_hub_id = $2, connected_session_id = $3, connected_at = now(),
         disconnected_at = null where id = $1`,
      [this.runtimeBroker, instanceId, sessionId],
    );
    return sessionId;
  }

  async disconnect(): Promise<void> {
    await this.query(
      `update runtime_brokers set connected_hub_id = null, connected_session_id = null, connected_at = null,
         disconnected_at = '2026-01-02T03:04:05.678Z' where id = $1`,
      [this.runtimeBroker],
    );
  }

  /** What this replica may claim over that socket. */
  scope(instanceId: string, sessionId: string) {
    const sockets = [{ runtimeBrokerId: this.runtimeBroker, sessionId, slots: 4 }];
    return { instanceId, sockets, busyAgents: [] };
  }

  /** A message to the agent; its id. */
  async message(acceptedBy: string, more: Partial<NewMessage> = {}): Promise<string> {
    const id = systemRandom.uuid();
    const row: NewMessage = {
      id,
      projectId: this.project,
      agentId: this.agent,
      runtimeBrokerId: this.runtimeBroker,
      sender: "user:x",
      senderId: null,
      recipient: "agent:a1",
      recipientId: this.agent,
      msg: "hello",
      type: "instruction",
      urgent: false,
      broadcasted: false,
      groupId: null,
      channel: null,
      threadId: null,
      envelope: {},
      interrupt: false,
      holdReason: null,
      createdBy: null,
      traceparent: null,
      ...more,
    };
    await insertPendingMessages(this.db, { messages: [row], acceptedBy });
    return id;
  }

  /** A stop of the agent; its id. */
  async operation(acceptedBy: string, createdBy?: string): Promise<string> {
    const id = systemRandom.uuid();
    await insertDispatch(this.db, {
      id,
      runtimeBrokerId: this.runtimeBroker,
      agentId: this.agent,
      agentSlug: "a1",
      projectId: this.project,
      op: "stop",
      args: {},
      deadlineSeconds: 90,
      acceptedBy,
      ...(createdBy && { createdBy }),
    });
    return id;
  }

  async read(path: string, principal: Principal = ADMIN): Promise<Trace> {
    const answer = await this.hub.as(principal).get(path);
    expect([path, answer.status]).toEqual([path, 200]);
    return answer.body as Trace;
  }

  /** The trace of a message. */
  traced(id: string): Promise<Trace> {
    return this.read(`/api/v1/messages/${id}/trace`);
  }
}

/** What happened, in order. */
export const events = (trace: Trace) => trace.hops.map((h) => h.event);
