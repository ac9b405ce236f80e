import type { DispatchSummary, Trace } from "@rootstock/protocol";
import type { Http } from "../http.ts";

/** Where messages and operations are: each step with its time, replica, runtime broker and attempt. */
export class Traces {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** @throws HubResponseError 404 for a message that is not there, or not the caller's to see */
  message(id: string): Promise<Trace> {
    return this.#http.json("GET", `/api/v1/messages/${encodeURIComponent(id)}/trace`);
  }

  /** @throws HubResponseError 404 for an operation that is not there, or not the caller's to see */
  dispatch(id: string): Promise<Trace> {
    return this.#http.json("GET", `/api/v1/dispatches/${encodeURIComponent(id)}`);
  }

  /** The latest operations on an agent, newest first. */
  async dispatchesOf(agentId: string): Promise<readonly DispatchSummary[]> {
    const { dispatches } = await this.#http.json<{ readonly dispatches: readonly DispatchSummary[] }>(
      "GET",
      `/api/v1/agents/${encodeURIComponent(agentId)}/dispatches`,
    );
    return dispatches;
  }
}
