import { formatTraceparent, parseTraceparent } from "@rootstock/protocol";

/**
 * How one call is followed through replicas. A span names its parent by a `traceparent`, the text that travels: from the
 * HTTP request into the row of the message or intent, from the row to whichever replica claims it, and on in the header
 * of the tunnelled request. The signal between replicas carries nothing: whoever it wakes reads the row.
 */

/** What a span says of itself: numbers and texts, never a secret or what somebody wrote. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** What part of a call a span is: `server` takes it, `producer` stores it for later, `consumer` takes it up, `client` sends it on. */
export type SpanRole = "server" | "client" | "producer" | "consumer";

/** A piece of work that is measured while it runs. */
export interface Span {
  /** For whatever goes on with this work; undefined when it belongs to no trace. */
  readonly traceparent: string | undefined;
  set(attributes: SpanAttributes): void;
  /** Ends it; with `error`, as failed. Further ends count for nothing. */
  end(error?: string): void;
}

/** Makes spans, or only hands on what clients sent when nobody collects them. */
export interface Tracing {
  /** False while nothing is collected: then what only spans need is not worth preparing. */
  readonly on: boolean;
  /** Begins a span below `parent`; a trace of its own when there is none. */
  begin(name: string, role: SpanRole, parent: string | null | undefined, attributes?: SpanAttributes): Span;
}

const nothing = (): void => {};

/** A span that is not recorded: what came in goes on. */
export const passedOn = (traceparent: string | null | undefined): Span =>
  traceparent ? { traceparent, set: nothing, end: nothing } : UNTRACED;

const UNTRACED: Span = { traceparent: undefined, set: nothing, end: nothing };

/** Nothing is collected. What a client sent still travels, so that its own systems can find the call. */
export const NO_TRACING: Tracing = { on: false, begin: (_name, _role, parent) => passedOn(parent) };

/** A client's `traceparent` header as it travels on; undefined when it is none (W3C Trace Context). */
export const acceptedTraceparent = (header: string | null | undefined): string | undefined => {
  const context = parseTraceparent(header);
  return context && formatTraceparent(context);
};
