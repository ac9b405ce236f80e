import { Probe } from "@rootstock/service";
import { noteSecrets, noteSecretsGiven, noteSecretsIn } from "../runRecord.ts";
import type { ReceivedRequest, SimulatedHandler, SimulatedReply } from "../simulatedAgents.ts";
import { isSigned } from "./signing.ts";

const UNSIGNED: SimulatedReply = {
  status: 401,
  body: { error: { code: "broker_auth_failed", message: "invalid signature" } },
};

/** What is said of a message that was delivered before. */
const DROPPED: SimulatedReply = { status: 200 };

export interface ExecutorOptions {
  readonly handle: SimulatedHandler;
  /** Whether a message whose id was delivered is not delivered again. */
  readonly remembersMessages: boolean;
  /** Asked for every request: the keys that it may be signed with. */
  readonly keys: () => readonly string[];
}

/** Works requests off and remembers all of them; its answers can be kept back. */
export class Executor {
  /** Every request, in order of arrival, refused ones included. */
  readonly received: ReceivedRequest[] = [];
  /** Bodies of `message` calls that reached an agent. */
  readonly delivered: { readonly agent: string; readonly body: unknown }[] = [];
  readonly onRequest = new Probe<ReceivedRequest>();
  readonly #options: ExecutorOptions;
  readonly #remembered = new Map<string, Promise<SimulatedReply>>();
  #held: Promise<void> | undefined;
  #release: () => void = () => {};

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  /** Answers are worked out and kept back until `release`. */
  hold(): void {
    if (this.#held) return;
    this.#held = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  release(): void {
    this.#held = undefined;
    this.#release();
  }

  /** Resolves with the answer once it may be sent. */
  async execute(request: ReceivedRequest): Promise<SimulatedReply> {
    this.received.push(request);
    this.onRequest.emit(request);
    const reply = isSigned(request, this.#options.keys())
      ? await this.#answer(request).catch((err: unknown) => ({
          status: 400,
          body: { error: `request caused panic: ${err}` },
        }))
      : UNSIGNED;
    await this.#held;
    return reply;
  }

  async #answer(request: ReceivedRequest): Promise<SimulatedReply> {
    noteSecretsIn(request.json);
    noteSecretsGiven(request.json);
    noteSecrets(request.headers["x-scion-signature"]);
    if (!request.path.endsWith("/message")) return this.#options.handle(request);
    const id = (request.json as { message_id?: unknown } | undefined)?.message_id;
    if (!this.#options.remembersMessages || typeof id !== "string") return this.#message(request);
    // One that comes again while the first is still being given to the agent waits for that.
    const before = this.#remembered.get(id);
    if (before) return before.then(() => DROPPED);
    const reply = this.#message(request);
    this.#remembered.set(id, reply);
    return reply;
  }

  async #message(request: ReceivedRequest): Promise<SimulatedReply> {
    const reply = await this.#options.handle(request);
    if (reply.status < 300) this.delivered.push({ agent: request.path.split("/")[4] ?? "", body: request.json });
    return reply;
  }
}
