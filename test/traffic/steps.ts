import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * What was recorded between clients, runtime broker and the original hub, one step a line in `flows/`, reduced to what
 * the replay needs: frames and headers are stripped, texts cut at 200 characters, tokens named by whose they are, counts
 * of health answers left out. Times are those of the recording and order the steps of several flows; what the runtime
 * broker did just after the answer that it led to stands before it. Two steps differ from the recording: the second
 * `GET /events` carries a user's token, and the outage in `broker-redial` begins with a lost socket.
 */
export type Step = { readonly at: number; readonly flows: readonly string[] } & Recorded;

type Recorded =
  | Call
  | Answer
  | TunnelledRequest
  | TunnelledReply
  | StreamedEvent
  | { readonly kind: "dial"; readonly conn: string }
  | { readonly kind: "connected"; readonly conn: string; readonly frame: object }
  | { readonly kind: "close"; readonly conn: string; readonly from: string; readonly code: number | null }
  | { readonly kind: "inject"; readonly code?: number }
  | { readonly kind: "refused"; readonly conn: string };

/** An HTTP request to the hub. */
export interface Call {
  readonly kind: "call";
  /** Pairs it with its answer. */
  readonly conn: string;
  readonly as: "user" | "agent" | "runtimeBroker" | "nobody";
  /** Whose token it carries. */
  readonly agent?: string;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

/** The hub's answer; no `body` where it was empty. */
export interface Answer {
  readonly kind: "answer";
  readonly conn: string;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** A request of the hub through the control channel. */
export interface TunnelledRequest {
  readonly kind: "request";
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly query?: string;
  readonly body?: unknown;
}

/** The runtime broker's answer to the request of that id. */
export interface TunnelledReply {
  readonly kind: "reply";
  readonly id: string;
  readonly status: number;
  readonly contentType?: string;
  readonly body?: unknown;
}

/** An event on the stream that `conn` opened. */
export interface StreamedEvent {
  readonly kind: "event";
  readonly conn: string;
  readonly event: string;
  readonly id?: string;
  readonly data: unknown;
}

const FLOWS = fileURLToPath(new URL("flows/", import.meta.url));

const keyOf = (step: Recorded): string => {
  const { at: _at, flows: _flows, ...what } = step as Step;
  return JSON.stringify(what);
};

/** The steps of several flows of one recording in their order; what two of them show happens once. */
export const loadSteps = (flows: readonly string[]): readonly Step[] => {
  const steps = new Map<string, Step & { flows: string[] }>();
  for (const flow of flows)
    for (const line of readFileSync(`${FLOWS}${flow}.jsonl`, "utf8").split("\n").filter(Boolean)) {
      const step: Recorded & { at: number } = JSON.parse(line);
      const known = steps.get(keyOf(step));
      if (known) known.flows.push(flow);
      else steps.set(keyOf(step), { ...step, flows: [flow] });
    }
  return [...steps.values()].sort((a, b) => a.at - b.at);
};
