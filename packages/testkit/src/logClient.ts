import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { Probe } from "@rootstock/service";
import { ApiReply } from "./api.ts";
import { eventually } from "./eventually.ts";
import { TEST_TOKEN } from "./replicas.ts";

export interface FollowOptions {
  readonly token?: string | null;
  /** Besides `follow`: `tail=5`, for one. */
  readonly query?: string;
  /** The id of the last event that was had before. */
  readonly lastEventId?: string;
}

/** One event of a followed log. */
export interface LogEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly id?: string;
}

/** Somebody who follows an agent's log. */
export class LogClient {
  /** Each event as it comes. */
  readonly onEvent = new Probe<LogEvent>();
  /** The lines so far. */
  readonly lines: string[] = [];
  /** The last id that an event had. */
  lastEventId = "";
  /** Events that are no lines. */
  readonly others: LogEvent[] = [];
  /** Resolves when the answer has ended; with false when it broke off. */
  readonly ended: Promise<boolean>;
  readonly #request: ClientRequest;
  readonly #response: IncomingMessage;
  #text = "";

  private constructor(asked: ClientRequest, response: IncomingMessage) {
    this.#request = asked;
    this.#response = response;
    response.setEncoding("utf8");
    response.on("data", (text: string) => this.#take(text));
    response.on("error", () => {});
    this.ended = new Promise((resolve) => response.once("close", () => resolve(response.complete)));
  }

  /** Resolves once the answer has begun; with the whole answer when it is a refusal. */
  static follow(
    replica: { readonly url: string },
    agentId: string,
    { token = TEST_TOKEN, query = "tail=100", lastEventId }: FollowOptions = {},
  ): Promise<LogClient | ApiReply> {
    const asked = request(`${replica.url}/api/v1/agents/${agentId}/logs?follow=true&${query}`, {
      agent: false,
      headers: {
        accept: "text/event-stream",
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(lastEventId && { "last-event-id": lastEventId }),
      },
    });
    return new Promise((resolve, reject) => {
      asked.on("error", reject);
      asked.once("response", (response) => {
        if (response.statusCode === 200) resolve(new LogClient(asked, response));
        else
          refused(response).then(
            (body) => resolve(new ApiReply(response.statusCode ?? 0, new Headers(), body)),
            reject,
          );
      });
      asked.end();
    });
  }

  /** Resolves once a line contains `text`. */
  async shows(text: string): Promise<void> {
    await eventually(() => this.lines.some((line) => line.includes(text)));
  }

  /** Reads nothing more from the socket. */
  pause(): void {
    this.#response.pause();
  }

  resume(): void {
    this.#response.resume();
  }

  /** Goes away. */
  cut(): void {
    this.#request.destroy();
  }

  #take(text: string): void {
    const frames = (this.#text + text).split("\n\n");
    this.#text = frames.pop() ?? "";
    for (const frame of frames) {
      const [, event, data, id] = /^event: (\w+)\ndata: (.*?)(?:\nid: (.*))?$/.exec(frame) ?? [];
      if (event === undefined || data === undefined) continue;
      const parsed: LogEvent = { event, data: JSON.parse(data), ...(id && { id }) };
      if (id) this.lastEventId = id;
      if (event === "log") this.lines.push(String(parsed.data.message));
      else this.others.push(parsed);
      this.onEvent.emit(parsed);
    }
  }
}

const refused = async (response: IncomingMessage): Promise<string> => {
  let body = "";
  for await (const piece of response) body += piece;
  return body;
};
