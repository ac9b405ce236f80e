import { afterAll, beforeAll } from "@jest/globals";
import { createBody, type Joined, joinedBroker, messageBody, query } from "../testing/setup.ts";

/** One runtime broker for all tests of a file, joined to a hub of the tests' own. */
export class OperationsScene {
  #joined: Joined | undefined;
  #names = 0;

  /** To be made at the top of a test file: it adds the hooks. */
  constructor(...options: Parameters<typeof joinedBroker>) {
    beforeAll(async () => {
      this.#joined = await joinedBroker(...options);
    });
    afterAll(() => this.#joined?.stop());
  }

  get joined(): Joined {
    if (!this.#joined) throw new Error("the runtime broker has not joined yet");
    return this.#joined;
  }

  /** A name that no agent has. */
  readonly name = (): string => `a${++this.#names}`;

  readonly call = (method: string, path: string, body?: unknown, q = query) =>
    this.joined.session.request(method, path, { query: q, ...(body !== undefined && { body }) });

  readonly create = (slug: string, more: Record<string, unknown> = {}) =>
    this.joined.session.request("POST", "/api/v1/agents", { body: createBody(slug, more) });

  readonly say = (slug: string, text: string, id?: string, more = {}) =>
    this.call("POST", `/api/v1/agents/${slug}/message`, messageBody(text, id, more));
}
