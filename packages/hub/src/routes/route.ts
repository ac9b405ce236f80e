import type { ErrorCode } from "@rootstock/protocol";
import type { Log } from "@rootstock/service";
import type { z } from "zod";
import type { Credentials, Principal } from "../auth/index.ts";
import type { AccessRule } from "./access.ts";
import type { Does } from "./does.ts";
import type { Limited } from "./limited.ts";
import type { Replies, ReplyShape } from "./shapes.ts";

/**
 * A request as a handler sees it: who calls, and what was sent, already checked. What is found out only when somebody wants
 * to know is a function, never an accessor: a copy by `...` has all of it, and making one costs a call nothing.
 */
export interface Call<Query = unknown, Body = unknown> {
  readonly principal: Principal;
  /** What its route declares. */
  readonly does: Does;
  /** Path parameters, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
  /** The bytes as they came: what signatures and idempotency keys cover. */
  readonly rawBody: Buffer;
  readonly headers: Headers;
  readonly method: string;
  /** Path without the query. */
  readonly path: string;
  /** Where the client believes it is, for links: the configured public URL or the request's own origin. */
  readonly origin: () => string;
  /** From where the request comes, as far as proxies are believed; empty in tests without a socket. */
  readonly address: () => string;
  readonly requestId: string;
  /** What the caller is known by, for routes of sign-in. */
  readonly credentials: Credentials;
  /** Who the caller is by the same credentials now: for answers that last. Throws as at the beginning. */
  readonly reauthenticate: () => Promise<Principal>;
  /** The trace that this request belongs to, for what it sets in motion (W3C Trace Context). */
  readonly traceparent: string | undefined;
  readonly log: () => Log;
  /** Whether the client has gone away by now. */
  readonly hungUp: () => boolean;
  /**
   * Aborts when the client goes away. Accepted work goes on all the same. For what lasts: it is dear, as the whole request
   * is made into a web one for it.
   */
  readonly signal: () => AbortSignal;
}

/** What a look-up of the resource that a path names needs to know: who asks, for what, to do what. */
export type Asking = Pick<Call, "principal" | "params" | "does">;

/** An answer. `json` and `empty` make the usual ones; a `Response` is for streams and plain text. */
export type Reply = Response;

interface RouteBase {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With `:name` parameters. A path below /api/v1/projects is served below /api/v1/groves too (spec/02 1.6). */
  readonly path: string;
  readonly access: AccessRule;
  /** What it does, and to what: what the lookups of its handler demand. */
  readonly does: Does;
  /** Its limit beside the general ones: see `limitOf`. */
  readonly limited?: Limited;
  /** The most bytes of a body; 1 MiB unless said otherwise. */
  readonly maxBodyBytes?: number;
  /** Query parameters that may be repeated: the schema gets a list of each, empty when absent. Of others the first counts. */
  readonly repeated?: readonly string[];
  /**
   * Whether programs may call it with a token of a person (spec/03 1.3). They may not unless this says so: such a route
   * asks `decide` for whatever it shows or does.
   */
  readonly accessTokens?: true;
  /** Whether people may call it while the hub is closed for maintenance: what tells them who they are, and signs out. */
  readonly duringMaintenance?: true;
  /** Answered directly from `headers`-less stores: skips the request log at info level (health checks, metrics). */
  readonly quiet?: boolean;
  /**
   * Left out of the document of the API, which tells what this hub does: a route that only says that it has no such part.
   * Set in `notConfigured.ts` alone.
   */
  readonly documented?: false;
  /** What it does in a few words, for the document of the API. */
  readonly summary?: string;
  /** What it answers by status, errors in the envelope apart. Tests hold every answer against it. */
  readonly replies?: Replies;
  /** The error codes of its own, beside those that any route with its declaration answers (see `codesOf`). */
  readonly refuses?: readonly ErrorCode[];
  /** What is sent to a handler that reads `rawBody` itself, by content type: for the document alone. */
  readonly reads?: Readonly<Record<string, ReplyShape>>;
}

/** A declared route. One without an access rule, or that does not say what it does, does not compile. */
export interface Route extends RouteBase {
  readonly query: z.ZodType | undefined;
  readonly body: z.ZodType | undefined;
  readonly handler: (call: Call) => Promise<Reply> | Reply;
}

interface RouteDeclaration<Q extends z.ZodType | undefined, B extends z.ZodType | undefined> extends RouteBase {
  /** The query's parameters; every one is text or absent, those in `repeated` a list. */
  readonly query?: Q;
  /**
   * The JSON body. A schema that accepts `{}` accepts an empty body, as the clients send none for actions without
   * arguments.
   */
  readonly body?: B;
  readonly handler: (
    call: Call<
      Q extends z.ZodType ? z.output<Q> : Readonly<Record<string, string>>,
      B extends z.ZodType ? z.output<B> : undefined
    >,
  ) => Promise<Reply> | Reply;
}

/** Declares a route; the handler's types follow from the schemas. */
export const route = <Q extends z.ZodType | undefined = undefined, B extends z.ZodType | undefined = undefined>(
  declaration: RouteDeclaration<Q, B>,
): Route => ({
  ...declaration,
  query: declaration.query,
  body: declaration.body,
  // The app parses with the very schemas that the handler's type came from.
  handler: declaration.handler as Route["handler"],
});

/** A JSON answer. */
export const json = (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Reply =>
  new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });

/** 204. */
export const empty = (): Reply => new Response(null, { status: 204 });
