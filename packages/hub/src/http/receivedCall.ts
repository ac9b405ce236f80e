import type { Log } from "@rootstock/service";
import type { Principal } from "../auth/index.ts";
import type { Call } from "../routes/index.ts";

/** What of a call is found out when somebody asks for it. */
export interface AskedFor {
  /** By whom the client has come through. */
  readonly origin: () => string;
  readonly address: () => string;
  readonly log: () => Log;
  /** Asked for by streams alone, and dear: the whole request is made into a web one for it. */
  readonly signal: () => AbortSignal;
}

type Said = Omit<Call, keyof AskedFor>;

/**
 * A request as its handler sees it. A class, because an object that is written down with accessors costs more than all
 * that its fields do; so a copy by `...` has what was said and nothing of {@link AskedFor}.
 */
export class ReceivedCall implements Call {
  readonly principal: Principal;
  readonly does: Call["does"];
  readonly params: Call["params"];
  readonly query: unknown;
  readonly body: unknown;
  readonly rawBody: Buffer;
  readonly headers: Headers;
  readonly method: string;
  readonly path: string;
  readonly requestId: string;
  readonly credentials: Call["credentials"];
  readonly reauthenticate: Call["reauthenticate"];
  readonly traceparent: string | undefined;
  readonly hungUp: () => boolean;
  readonly #askedFor: AskedFor;

  constructor(said: Said, askedFor: AskedFor) {
    this.principal = said.principal;
    this.does = said.does;
    this.params = said.params;
    this.query = said.query;
    this.body = said.body;
    this.rawBody = said.rawBody;
    this.headers = said.headers;
    this.method = said.method;
    this.path = said.path;
    this.requestId = said.requestId;
    this.credentials = said.credentials;
    this.reauthenticate = said.reauthenticate;
    this.traceparent = said.traceparent;
    this.hungUp = said.hungUp;
    this.#askedFor = askedFor;
  }

  get origin(): string {
    return this.#askedFor.origin();
  }

  get address(): string {
    return this.#askedFor.address();
  }

  get log(): Log {
    return this.#askedFor.log();
  }

  get signal(): AbortSignal {
    return this.#askedFor.signal();
  }
}
