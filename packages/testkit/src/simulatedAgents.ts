/** A request that came through the tunnel, as the simulated runtime broker saw it. */
export interface ReceivedRequest {
  readonly requestId: string;
  readonly method: string;
  /** Percent-encoded, without query. */
  readonly path: string;
  /** As it came, without `?`. */
  readonly rawQuery: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown;
  /** The session that it came over. */
  readonly sessionId: string;
}

export interface SimulatedReply {
  readonly status: number;
  readonly body?: object | string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

export type SimulatedHandler = (request: ReceivedRequest) => SimulatedReply | Promise<SimulatedReply>;

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;

const text = (value: unknown): string => (typeof value === "string" ? value : "");

const notFound = (code: string): SimulatedReply => ({
  status: 404,
  body: { error: { code, message: "not found" } },
});

/** The agents of a simulated runtime broker, and the answers of spec/01 4.1 about them. */
export class SimulatedAgents {
  /** Phase by slug. */
  readonly phases = new Map<string, string>();
  /** Creates that were answered, by their `requestId`: a repetition gets the same answer. */
  readonly #created = new Map<string, SimulatedReply>();

  /** The answer of a well-behaved runtime broker. */
  readonly handle: SimulatedHandler = (request) => {
    const [, , , kind, slug, action] = request.path.split("/");
    if (kind === "projects") return { status: 204 };
    if (kind !== "agents") return notFound("not_found");
    if (!slug) return request.method === "POST" ? this.#create(request) : this.#list();
    if (!action) return this.#single(request, slug);
    return this.#act(request, slug, action);
  };

  #create(request: ReceivedRequest): SimulatedReply {
    const id = text(field(request.json, "requestId"));
    const before = this.#created.get(id);
    if (before) return before;
    const slug = text(field(request.json, "slug")) || text(field(request.json, "name"));
    if (!slug) return { status: 400, body: { error: { code: "validation_error", message: "name is required" } } };
    const phase = field(request.json, "provisionOnly") === true ? "created" : "running";
    this.phases.set(slug, phase);
    const reply = { status: 201, body: { agent: this.#agent(slug), created: true } };
    if (id) this.#created.set(id, reply);
    return reply;
  }

  #list(): SimulatedReply {
    const agents = [...this.phases.keys()].map((slug) => ({ ...this.#agent(slug), slug }));
    return { status: 200, body: { agents, totalCount: agents.length } };
  }

  #single(request: ReceivedRequest, slug: string): SimulatedReply {
    if (request.method === "DELETE") {
      this.phases.delete(slug);
      return { status: 204 };
    }
    return this.phases.has(slug) ? { status: 200, body: { ...this.#agent(slug), slug } } : notFound("agent_not_found");
  }

  #act(request: ReceivedRequest, slug: string, action: string): SimulatedReply {
    switch (action) {
      case "start":
      case "restart": {
        const resumed = this.phases.get(slug) === "suspended" || field(request.json, "resume") === true;
        this.phases.set(slug, "running");
        const agent = { ...this.#agent(slug), ...(resumed && { phase: "resumed", status: "resumed" }) };
        return { status: 202, body: { agent, created: false } };
      }
      case "stop":
      case "suspend":
        this.phases.set(slug, "stopped");
        return { status: 202, body: { status: "accepted", message: "stopping" } };
      case "finalize-env":
        return { status: 201, body: { agent: this.#agent(slug), created: true } };
      case "message":
        return { status: 200 };
      case "exec":
        return { status: 200, body: { output: "", exitCode: 0 } };
      case "logs":
        return { status: 200, body: "a line of the log\n", headers: { "Content-Type": "text/plain" } };
      case "reset-auth":
        return { status: 200, body: { message: "token updated" } };
      case "has-prompt":
        return request.method === "GET"
          ? { status: 200, body: { hasPrompt: false } }
          : { status: 405, body: { error: { code: "method_not_allowed", message: "method not allowed" } } };
      default:
        return notFound("not_found");
    }
  }

  /** As in a reply to create and start: no slug, no id (spec/01 4.1). */
  #agent(slug: string): Record<string, unknown> {
    const phase = this.phases.get(slug) ?? "stopped";
    return {
      slug: "",
      name: slug,
      phase,
      status: phase,
      containerId: `c-${slug}`,
      containerStatus: phase === "running" ? "Up 1 second" : "Exited (0)",
      runtime: "podman",
      createdAt: "0001-01-01T00:00:00Z",
      updatedAt: "0001-01-01T00:00:00Z",
    };
  }
}
