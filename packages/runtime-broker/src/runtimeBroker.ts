import { MAX_FRAME_BYTES, type ToRuntimeBroker } from "@rootstock/protocol";
import { type Base, type Service, startStages, stopStages } from "@rootstock/service";
import { AgentStore } from "./agents/agentStore.ts";
import { Agents } from "./agents/agents.ts";
import { PROFILE } from "./agents/agentView.ts";
import { CreateRequests } from "./agents/createRequests.ts";
import { PendingCreates } from "./agents/pendingCreates.ts";
import type { RuntimeBrokerConfig } from "./config.ts";
import type { Channel } from "./link/channel.ts";
import { CredentialsSource } from "./link/credentialsSource.ts";
import { Link } from "./link/link.ts";
import { RequestGuard } from "./link/requestGuard.ts";
import { DeliveredMessages } from "./messages/deliveredMessages.ts";
import { OPERATIONS } from "./operations/index.ts";
import { Heartbeat } from "./reporting/heartbeat.ts";
import { AgentReporters } from "./reporting/reporters.ts";
import { ContainerRuntime } from "./runtimes/container/containerRuntime.ts";
import { ProcessRuntime } from "./runtimes/process/processRuntime.ts";
import type { Runtime } from "./runtimes/runtime.ts";
import { StateLock } from "./stateLock.ts";
import { AgentStreams } from "./streams/agentStreams.ts";
import { STREAM_TYPES } from "./streams/openStream.ts";
import { Dispatcher } from "./tunnel/dispatcher.ts";
import { Router } from "./tunnel/router.ts";

/** How long a stop waits for requests that are being run. */
const STOP_PATIENCE_MS = 5_000;

const makeRuntime = (base: Base, config: RuntimeBrokerConfig): Runtime =>
  config.runtime === "process"
    ? new ProcessRuntime(base, { stopGraceMs: config.stopGraceMs })
    : new ContainerRuntime(base, {
        command: config.containerCommand,
        network: config.containerNetwork,
        hubUrl: config.containerHubUrl,
        stopGraceMs: config.stopGraceMs,
        hostEnv: config.hostEnv,
      });

/**
 * A machine's part in the system: joins a hub, keeps a channel to it, and runs agents for it (spec/01 as the client). Its
 * stop lets the agents run on; the next start finds them.
 */
export class RuntimeBroker implements Service {
  readonly link: Link;
  readonly heartbeat: Heartbeat;
  readonly dispatcher: Dispatcher;
  readonly agents: Agents;
  readonly #base: Base;
  readonly #credentials: CredentialsSource;
  readonly #streams: AgentStreams;
  readonly #stages: readonly (readonly Service[])[];

  constructor(base: Base, config: RuntimeBrokerConfig) {
    this.#base = base;
    const runtime = makeRuntime(base, config);
    this.#credentials = new CredentialsSource(base, config, async () => [
      { name: PROFILE, type: runtime.name, available: (await runtime.problem()) === undefined },
    ]);
    const credentials = async () => this.#credentials.current;
    const store = new AgentStore(base, config.stateDirectory);
    const reporters = new AgentReporters(base, {
      hubUrl: async () => this.#credentials.current.hubUrl,
      heartbeatMs: config.heartbeatMs,
      enabled: !runtime.reportsItself,
    });
    const delivered = new DeliveredMessages(base.clock);
    const pending = new PendingCreates(base, config.stateDirectory);
    const creates = new CreateRequests(base, config.stateDirectory);
    this.agents = new Agents(base, { config, store, runtime, reporters, credentials });
    this.#streams = new AgentStreams(base, this.agents);
    const startedAt = base.clock.elapsed();
    this.dispatcher = new Dispatcher(base, {
      router: new Router(OPERATIONS),
      guard: new RequestGuard(base.clock),
      concurrency: config.concurrency,
      context: {
        base,
        config,
        agents: this.agents,
        delivered,
        pending,
        creates,
        credentials,
        openStreams: () => this.#streams.size,
        uptimeMs: () => base.clock.elapsed() - startedAt,
      },
    });
    this.heartbeat = new Heartbeat(base, {
      credentials,
      intervalMs: config.heartbeatMs,
      content: async () => ({
        status: (await runtime.problem()) === undefined ? "online" : "degraded",
        agents: await this.agents.heartbeatAgents(),
      }),
    });
    this.agents.changed.on(() => this.heartbeat.poke());
    this.link = new Link(base, {
      credentials: () => this.#credentials.refresh(),
      concurrentRequests: config.concurrency,
      maxFrameBytes: MAX_FRAME_BYTES,
      streamTypes: STREAM_TYPES,
      listener: {
        onFrame: (channel, frame) => this.#onFrame(channel, frame),
        onClosed: (channel) => this.#streams.closeAll(channel),
      },
    });
    const drain: Service = { start: async () => {}, stop: () => this.#drain() };
    this.#stages = [
      [new StateLock(config.stateDirectory)],
      [runtime, store, delivered, pending, creates],
      [this.#credentials],
      [reporters],
      [this.agents],
      [this.heartbeat],
      [drain],
      [this.link],
    ];
  }

  /** @throws Error when the state directory is in use, or the hub does not let this runtime broker join */
  start(): Promise<void> {
    return startStages(this.#stages);
  }

  /** Closes the channel, lets running requests end for a moment, and leaves the agents running. */
  stop(): Promise<void> {
    return stopStages(this.#stages);
  }

  async #drain(): Promise<void> {
    const waited = new AbortController();
    await Promise.race([this.dispatcher.idle(), this.#base.clock.sleep(STOP_PATIENCE_MS, waited.signal)]);
    waited.abort();
  }

  #onFrame(channel: Channel, frame: ToRuntimeBroker): void {
    if (frame.type === "request") this.dispatcher.handle(channel, frame, this.#credentials.current.secret);
    else if (frame.type === "stream_open") this.#streams.open(channel, frame);
    else if (frame.type === "stream") this.#streams.input(channel, frame);
    else if (frame.type === "stream_resize") this.#streams.resize(channel, frame);
    else if (frame.type === "stream_credit") this.#streams.credit(channel, frame);
    else if (frame.type === "stream_close") this.#streams.close(channel, frame);
  }
}
