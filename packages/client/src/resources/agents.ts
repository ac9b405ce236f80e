import type { StructuredMessageInput } from "@rootstock/protocol";
import { type FollowOptions, followLogs } from "../followLogs.ts";
import type { Http, QueryValue } from "../http.ts";
import { allOf } from "../pages.ts";

/** An agent as the hub shows it (spec/02 2.3); the fields that this client's users read. */
export interface Agent {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly projectId: string;
  readonly template?: string;
  readonly harnessConfig?: string;
  readonly phase: string;
  readonly activity?: string;
  readonly message?: string;
  readonly taskSummary?: string;
  readonly containerStatus?: string;
  readonly runtime?: string;
  readonly runtimeBrokerId?: string;
  readonly runtimeBrokerName?: string;
  readonly labels?: Readonly<Record<string, string>> | null;
  readonly created: string;
  readonly updated: string;
  readonly lastSeen?: string;
  readonly deletedAt?: string;
  readonly stateVersion: number;
}

/** What a create or an env call still wants from the person's environment (spec/02 2.6). */
export interface EnvGather {
  readonly agentId: string;
  readonly required: readonly string[];
  readonly hubHas: readonly { readonly key: string; readonly scope: string }[] | null;
  readonly needs: readonly string[];
  readonly secretInfo?: Readonly<
    Record<string, { readonly description?: string; readonly source: string; readonly type?: string }>
  >;
}

/** What a create asks for (spec/02 2.6). */
export interface CreateAgent {
  readonly name: string;
  readonly task?: string | undefined;
  readonly template?: string | undefined;
  readonly harnessConfig?: string | undefined;
  readonly runtimeBrokerId?: string | undefined;
  readonly profile?: string | undefined;
  readonly branch?: string | undefined;
  readonly workspace?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  readonly resume?: boolean | undefined;
  readonly provisionOnly?: boolean | undefined;
  readonly gatherEnv?: boolean | undefined;
  readonly notify?: boolean | undefined;
}

export interface CreatedAgent {
  readonly agent: Agent;
  readonly warnings?: readonly string[];
  /** Present when values are missing: answer with `submitEnv`. */
  readonly envGather?: EnvGather;
}

export interface AgentPage {
  readonly agents: readonly Agent[];
  readonly nextCursor?: string;
  /** How many there are on all pages; with `totalCountApproximate` an estimate. */
  readonly totalCount: number;
  readonly totalCountApproximate?: true;
  readonly serverTime: string;
}

export interface ListAgents {
  readonly phase?: string | undefined;
  readonly includeDeleted?: boolean | undefined;
  /** At most this many (the hub's default is 1000, its maximum 500; 50 with a cursor). */
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
  /** `exact`: every agent is counted, however many; a hub that cannot do that in time refuses (422, 429). */
  readonly totalCount?: "exact" | "estimated" | undefined;
}

/** A message to an agent: its text, or the structured form. */
export interface SendMessage {
  readonly message?: string | undefined;
  readonly structured_message?: StructuredMessageInput | undefined;
  readonly interrupt?: boolean | undefined;
  readonly notify?: boolean | undefined;
  /** Starts a suspended agent first. */
  readonly wake?: boolean | undefined;
  /** Keeps the message for a runtime broker that is away for long, and for the next run of an agent that is not up. */
  readonly queue?: boolean | undefined;
}

/** What became of a message. Whatever the state says, the message is stored and will not be lost. */
export interface SentMessage {
  readonly message_id: string;
  /** `delivered` once the runtime broker has acknowledged it; anything else is still on its way. */
  readonly status: string;
  readonly agent?: string;
  readonly agent_phase?: string;
}

export interface ExecResult {
  readonly output: string;
  readonly exitCode: number;
}

export interface CallOptions {
  /** Repeating a call with the same key executes it once. By default every call gets a key of its own. */
  readonly idempotencyKey?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

const keyed = (options: CallOptions) => ({
  idempotencyKey: options.idempotencyKey ?? "auto",
  signal: options.signal,
});

/** The agents of one project, addressed by slug or id (spec/02 section 2). */
export class ProjectAgents {
  readonly #http: Http;
  readonly #base: string;

  constructor(http: Http, projectId: string) {
    this.#http = http;
    this.#base = `/api/v1/projects/${encodeURIComponent(projectId)}/agents`;
  }

  create(request: CreateAgent, options: CallOptions = {}): Promise<CreatedAgent> {
    return this.#http.json("POST", this.#base, { body: request, ...keyed(options) });
  }

  /** Hands in the values that a create asked for. The answer may ask again. */
  submitEnv(agent: string, env: Readonly<Record<string, string>>, options: CallOptions = {}): Promise<CreatedAgent> {
    return this.#http.json("POST", this.#path(agent, "env"), { body: { env }, ...keyed(options) });
  }

  list(filter: ListAgents = {}): Promise<AgentPage> {
    const query: Record<string, QueryValue> = { ...filter };
    return this.#http.json("GET", this.#base, { query });
  }

  /** Every agent that `filter` lets through, page after page. */
  all(filter: Omit<ListAgents, "cursor"> = {}): AsyncGenerator<Agent> {
    return allOf(this.#http, { path: this.#base, as: "agents", query: { ...filter } });
  }

  get(agent: string, options: { readonly signal?: AbortSignal } = {}): Promise<Agent> {
    return this.#http.json("GET", this.#path(agent), options);
  }

  start(agent: string, options: CallOptions = {}): Promise<Agent> {
    return this.#act(agent, "start", options);
  }

  stop(agent: string, options: CallOptions = {}): Promise<Agent> {
    return this.#act(agent, "stop", options);
  }

  suspend(agent: string, options: CallOptions = {}): Promise<Agent> {
    return this.#act(agent, "suspend", options);
  }

  restart(agent: string, options: CallOptions = {}): Promise<Agent> {
    return this.#act(agent, "restart", options);
  }

  /** Takes back a soft delete; the agent stays down. */
  restore(agent: string, options: CallOptions = {}): Promise<Agent> {
    return this.#act(agent, "restore", options);
  }

  /** Deletes the agent, its files and its branch, unless told otherwise. `force` deletes it although its runtime broker is away. */
  delete(
    agent: string,
    query: { readonly deleteFiles?: boolean; readonly removeBranch?: boolean; readonly force?: boolean } = {},
  ): Promise<void> {
    return this.#http.done("DELETE", this.#path(agent), { query });
  }

  /** Resolves when the hub has committed the message; see `SentMessage` for how far it has come. */
  message(agent: string, message: SendMessage, options: CallOptions = {}): Promise<SentMessage> {
    return this.#http.json("POST", this.#path(agent, "message"), { body: message, ...keyed(options) });
  }

  /** What the agent has printed; the last `tail` lines where the runtime broker supports it. */
  async logs(agent: string, query: { readonly tail?: number | undefined } = {}): Promise<string> {
    const { logs } = await this.#http.json<{ readonly logs: string }>("GET", this.#path(agent, "logs"), { query });
    return logs;
  }

  /** What the agent prints, line by line, as it comes. */
  followLogs(agent: string, options: FollowOptions): AsyncGenerator<string> {
    return followLogs(this.#http, this.#path(agent, "logs"), options);
  }

  /** Runs a command beside the agent. `timeout` is in seconds. Not repeated by itself: a command may have effects. */
  exec(agent: string, command: readonly string[], timeout = 10): Promise<ExecResult> {
    return this.#http.json("POST", this.#path(agent, "exec"), { body: { command, timeout } });
  }

  #act(agent: string, verb: string, options: CallOptions): Promise<Agent> {
    return this.#http.json("POST", this.#path(agent, verb), keyed(options));
  }

  #path(agent: string, verb?: string): string {
    const base = `${this.#base}/${encodeURIComponent(agent)}`;
    return verb ? `${base}/${verb}` : base;
  }
}
