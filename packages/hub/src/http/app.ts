import { HubError } from "@rootstock/protocol";
import { type Base, type Log, plainLog } from "@rootstock/service";
import { type AuditActor, actingAs } from "@rootstock/store";
import { type Context, Hono } from "hono";
import {
  auditActor,
  type BrowserSessions,
  type Credentials,
  clearedCookie,
  clientAddress,
  type MaintenanceMode,
  NOBODY,
  type Principal,
  principalName,
  type RequestOrigin,
  SessionEnded,
} from "../auth/index.ts";
import type { RateLimits } from "../limits/index.ts";
import type { Metrics } from "../metrics/index.ts";
import {
  type Call,
  demand,
  demandDeclared,
  demandedOfHub,
  errorPage,
  isRefusal,
  limitOf,
  type Route,
  refusalEvent,
  signInFirst,
  wantsHtml,
} from "../routes/index.ts";
import { acceptedTraceparent, passedOn, type Span, type Tracing } from "../telemetry/index.ts";
import { DEFAULT_MAX_BODY_BYTES, parseJson, readBody } from "./body.ts";
import { addCorsHeaders, type CorsOrigins, preflight } from "./cors.ts";
import { renderError, toHubError } from "./errors.ts";
import { inTime } from "./inTime.ts";
import { RememberingRouter } from "./rememberingRouter.ts";
import {
  type Believed,
  bodyOf,
  decodePath,
  demandHost,
  incomingOf,
  isTls,
  originOf,
  peerAddress,
  queryOf,
  targetOf,
} from "./requestParts.ts";
import { addSecurityHeaders } from "./securityHeaders.ts";
import { validate } from "./validate.ts";

export interface AppOptions extends Believed {
  readonly routes: readonly Route[];
  readonly authenticate: (credentials: Credentials) => Promise<Principal>;
  /** Where people sign in with a browser: what prolongs its session. */
  readonly sessions?: Pick<BrowserSessions, "renew">;
  /** Undefined: anybody may ask as much as they like. */
  readonly limits?: Pick<RateLimits, "spend" | "recur" | "knock" | "attempt" | "act">;
  /** Who has to wait while the hub is closed for maintenance. Public routes ask nobody. */
  readonly maintenance?: Pick<MaintenanceMode, "admit">;
  /** Whose pages may read what the API answers; nobody's by default. */
  readonly corsOrigins?: CorsOrigins;
  /** False while the replica starts: nothing behind the routes is there yet. */
  readonly serving: () => boolean;
  /** Answers a call with an Idempotency-Key: by handling it, or as the one was answered that it repeats. */
  readonly keyed: (call: Call, handle: () => Promise<Response>) => Promise<Response>;
  /** Records that somebody may not do what they asked for; by default nobody does. */
  readonly denied?: (event: ReturnType<typeof refusalEvent>) => Promise<void>;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  /** For how long the database has been asked without any answer, in milliseconds. */
  readonly databaseSilentForMs: () => number;
  /** For tests: looks at what is about to be answered, and may answer something else. */
  readonly inspect?: InspectReply;
  /** True while the replica drains: clients are asked to open their next connection elsewhere. */
  readonly draining: () => boolean;
}

/** Looks at the answer of a declared route before it is sent. */
export type InspectReply = (route: Route, response: Response) => Promise<Response>;

const LEGACY_HEADERS = {
  deprecation: "true",
  sunset: "Sun, 01 Nov 2026 00:00:00 GMT",
  link: '</api/v1/projects/>; rel="successor-version"',
};

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** The HTTP face of a replica: every declared route, and one rendering of every refusal. */
export const createApp = (base: Base, options: AppOptions): Hono => {
  const app = new Hono({ router: new RememberingRouter() });
  const methods = new Set(options.routes.map((route) => route.method));
  const requestLog = plainLog(base.log);
  demandDeclared(options.routes);

  // The paths of the parts that this hub has: there, what only says that something is not had allows no further method.
  const had = new Hono();
  for (const route of options.routes)
    if (route.documented !== false) had.on(route.method, [route.path], () => new Response());
  for (const route of options.routes) {
    const instead = route.documented === false ? notAllowing(route) : undefined;
    const serve = (c: Context) => answer(c, instead && takes(had, c.req.path) ? instead : route);
    app.on(route.method, route.path, serve);
    const legacy = legacyPath(route.path);
    if (legacy === undefined) continue;
    app.on(route.method, legacy, async (c) => {
      const response = await serve(c);
      for (const [name, value] of Object.entries(LEGACY_HEADERS)) response.headers.set(name, value);
      return response;
    });
  }
  // Looked for by this alone: a second handler of each path would make every call go through a chain of them.
  const takes = ({ router }: Hono, path: string) =>
    [...methods].some((method) => router.match(method, path)[0].length > 0);
  app.notFound((c) =>
    answer(c, undefined, takes(app, c.req.path) ? notAllowed(c.req.method) : new HubError("not_found", "no such path")),
  );

  /** Runs `route`, or refuses with `refusal`; logs and measures either. */
  const answer = async (c: Context, route: Route | undefined, refusal?: HubError): Promise<Response> => {
    const started = base.clock.elapsed();
    const given = c.req.header("x-request-id");
    const requestId = given && REQUEST_ID.test(given) ? given : base.random.uuid();
    const span = begin(c, route, requestId);
    const context = span.traceparent ? { requestId, traceparent: span.traceparent } : { requestId };
    // Made when somebody has something to say: most requests say nothing, and it costs more than their reading.
    let child: Log | undefined;
    const log = (): Log => {
      child ??= base.log.child(context);
      return child;
    };
    const known: Known = { principal: NOBODY };
    let address: string | undefined;
    const origin = () => {
      address ??= clientAddress(peerAddress(c), c.req.header("x-forwarded-for"), options.trustsPeer);
      return { headers: c.req.raw.headers, address, requestId };
    };
    let body: Promise<Buffer> | undefined;
    const readOnce = () => {
      body ??= readBody(bodyOf(c), route?.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES);
      return body;
    };
    let response: Response;
    try {
      response =
        preflightOf(c, options) ??
        (await actingAs(
          () => auditActor(known.principal, origin()),
          () =>
            inTime(
              base.clock,
              options.databaseSilentForMs,
              () => handle(c, route, refusal, origin, span, log, known, readOnce),
              unread,
            ),
        ));
    } catch (err) {
      if (route && isRefusal(err)) note(route, c, () => auditActor(known.principal, origin()), err);
      response = await refusedWith(c, route, toHubError(err, log()), requestId);
      if (err instanceof SessionEnded) known.ended = err.cookie;
      // Refused unread: what is still under way would end the connection before the client has heard why.
      await readOnce().catch(() => {});
    }
    if (options.inspect && route) response = await options.inspect(route, response);
    if (known.ended && !response.headers.has("set-cookie"))
      response.headers.append("set-cookie", clearedCookie(known.ended));
    await prolongSession(response, known.principal, log);
    response.headers.set("x-request-id", requestId);
    addSecurityHeaders(response.headers, isTls(c, options));
    const site = c.req.header("origin");
    if (site !== undefined && options.corsOrigins)
      addCorsHeaders(response.headers, options.corsOrigins, c.req.path, site);
    if (options.draining()) response.headers.set("connection", "close");
    // Answered as a GET, and nobody reads it: a stream would wait for that for ever.
    if (c.req.method === "HEAD") unread(response);
    const seconds = (base.clock.elapsed() - started) / 1000;
    const name = route?.path ?? "none";
    options.metrics.requests.observe({ route: name, method: c.req.method, status: response.status }, seconds);
    const principal = principalName(known.principal);
    endSpan(span, response.status, principal);
    requestLog[route?.quiet ? "debug" : "info"](
      {
        ...context,
        method: c.req.method,
        route: name,
        status: response.status,
        principal,
        ms: Math.round(seconds * 1e5) / 100,
      },
      "request",
    );
    return response;
  };

  /** Tells of a refusal; nobody waits for that. */
  const note = (route: Route, c: Context, actor: () => AuditActor, err: HubError): void => {
    const { denied } = options;
    if (denied) void actingAs(actor, () => denied(refusalEvent(route, c.req.param(), err)));
  };

  /** A browser that is in use stays signed in. What has been answered stays answered if that fails. */
  const prolongSession = async (response: Response, principal: Principal, log: () => Log): Promise<void> => {
    if (!options.sessions || principal.kind !== "user" || !principal.session?.due) return;
    // Who signs out, or in anew, has said what the cookie is to be.
    if (response.headers.has("set-cookie")) return;
    try {
      response.headers.append("set-cookie", await options.sessions.renew(principal, principal.session));
    } catch (err) {
      log().warn({ err }, "session not prolonged");
    }
  };

  /** The server's span of a request. Health checks and the like are of interest to nobody, unless a client says so. */
  const begin = (c: Context, route: Route | undefined, requestId: string): Span => {
    const parent = acceptedTraceparent(c.req.header("traceparent"));
    if (!options.tracing.on || (route?.quiet && !parent)) return passedOn(parent);
    const { method } = c.req;
    return options.tracing.begin(`${method} ${route?.path ?? "none"}`, "server", parent, {
      "http.request.method": method,
      "http.route": route?.path ?? "none",
      "rootstock.request_id": requestId,
    });
  };

  const handle = async (
    c: Context,
    route: Route | undefined,
    refusal: HubError | undefined,
    origin: () => RequestOrigin & { readonly requestId: string },
    span: Span,
    log: () => Log,
    known: Known,
    readOnce: () => Promise<Buffer>,
  ): Promise<Response> => {
    if (!options.serving()) throw new HubError("unavailable", "this replica is starting", { retryAfter: 1 });
    demandHost(c.req.url);
    const target = targetOf(c.req.url);
    const credentials: Credentials = {
      method: c.req.method,
      path: decodePath(target.path),
      query: target.query,
      headers: c.req.raw.headers,
      peer: peerAddress(c),
      body: readOnce,
    };
    const admitted = route?.access.name !== "anyone" && !route?.duringMaintenance ? options.maintenance : undefined;
    const authenticate = async () => {
      const found = await options.authenticate(credentials);
      admitted?.admit(found);
      return found;
    };
    if (route?.access.name === "anyone" && refusal === undefined) known.principal = NOBODY;
    else known.principal = await authenticate();
    const principal = known.principal;
    if (route?.quiet) options.limits?.recur(principal, () => origin().address);
    else if (options.limits) await count(options.limits, route, principal, origin().address);
    if (principal.kind === "nobody" && route?.access.name !== "anyone")
      throw new HubError("unauthorized", "missing authorization header");
    if (refusal) throw refusal;
    if (!route) throw new HubError("not_found", "no such path");
    if (!route.access.allows(principal))
      throw new HubError("forbidden", `only ${route.access.name} may do this`, {
        details: { route: route.path, reason: `not one of: ${route.access.name}` },
      });
    if (principal.kind === "user" && principal.limits && !route.accessTokens)
      throw new HubError("forbidden", "access tokens may not do this");
    const onHub = demandedOfHub(route.does);
    if (onHub) await demand(principal, onHub.action, onHub.resource);
    const rawBody = await readOnce();
    const call: Call = {
      principal,
      does: route.does,
      params: c.req.param() as Record<string, string>,
      query: route.query ? validate(route.query, queryOf(c, route), "query") : c.req.query(),
      body: route.body ? validate(route.body, parseJson(rawBody), "body") : undefined,
      rawBody,
      headers: c.req.raw.headers,
      method: c.req.method,
      path: target.path,
      requestId: origin().requestId,
      traceparent: span.traceparent,
      credentials,
      reauthenticate: async () => {
        const principal = await authenticate().catch((err: unknown) => {
          if (err instanceof SessionEnded) known.ended = err.cookie;
          throw err;
        });
        // Of a page, which is open to anyone: whoever looks at it is known from here on.
        if (known.principal.kind === "nobody") known.principal = principal;
        return principal;
      },
      // The server ends its side when the client has ended its own.
      hungUp: () => incomingOf(c)?.socket.writable === false,
      origin: () => originOf(c, new URL(c.req.url), options),
      address: () => origin().address,
      log,
      signal: () => c.req.raw.signal,
    };
    const carryOut = async () => route.handler(call);
    // Reading changes nothing: it may be repeated as it is, and a key that something else was done with refuses no look.
    return route.method !== "GET" && call.headers.has("idempotency-key") ? options.keyed(call, carryOut) : carryOut();
  };

  return app;
};

/** Ends what nobody reads. */
const unread = (response: Response): void => {
  void response.body?.cancel().catch(() => {});
};

const notAllowed = (method: string, why?: string): HubError =>
  new HubError("method_not_allowed", `${method} is not allowed here${why === undefined ? "" : `: ${why}`}`);

/** The route as it stands at a path that is another's by other methods. Clients show people why: what the hub does not have. */
const notAllowing = (route: Route): Route => ({
  ...route,
  refuses: ["method_not_allowed"],
  handler: async (call) => {
    try {
      return await route.handler(call);
    } catch (err) {
      if (err instanceof HubError && err.code === "not_implemented") throw notAllowed(call.method, err.message);
      throw err;
    }
  },
});

/** What has been found out about who calls. */
interface Known {
  principal: Principal;
  /** The cookie of a session that is over. */
  ended?: string;
}

/** A refusal as whoever is refused can read it. A person who is not signed in is sent to do so, and back (spec/03 3.5). */
const refusedWith = async (
  c: Context,
  route: Route | undefined,
  err: HubError,
  requestId: string,
): Promise<Response> => {
  const { path, query } = targetOf(c.req.url);
  // Pages are open to anyone and find out themselves who looks: what declares who may call it is for programs.
  const forPrograms = route !== undefined && route.access.name !== "anyone";
  if (forPrograms || path.startsWith("/api/") || !wantsHtml(c.req.raw.headers)) return renderError(err, requestId);
  if (err.status !== 401 || c.req.method !== "GET") return errorPage(err, requestId);
  return signInFirst(query === "" ? path : `${path}?${query}`);
};

/** Counts the call against every limit that it meets. Throws 429. Only doors, codes and deeds wait for the database. */
const count = async (
  limits: NonNullable<AppOptions["limits"]>,
  route: Route | undefined,
  principal: Principal,
  address: string,
): Promise<void> => {
  limits.spend(principal, address);
  const limited = route && limitOf(route);
  if (limited === undefined) return;
  if (limited === "terminal" || limited === "create") await limits.act(limited, principal);
  else if (principal.kind === "nobody") await limits.knock(limited, address);
  else await limits.attempt(limited, principal);
};

const endSpan = (span: Span, status: number, principal: string): void => {
  span.set({ "http.response.status_code": status, "rootstock.principal": principal });
  span.end(status >= 500 ? `answered ${status}` : undefined);
};

/** The twin below /groves of a path below /projects, where old clients repeat what got 404 (spec/02 1.6). */
export const legacyPath = (path: string): string | undefined =>
  path === "/api/v1/projects" || path.startsWith("/api/v1/projects/")
    ? path.replace("/api/v1/projects", "/api/v1/groves")
    : undefined;

/** A browser that asks what it may send: answered without knowing whose page it shows (spec/03 section 2). */
const preflightOf = (c: Context, { corsOrigins }: AppOptions): Response | undefined => {
  if (c.req.method !== "OPTIONS" || !corsOrigins) return undefined;
  const site = c.req.header("origin");
  return site === undefined ? undefined : preflight(corsOrigins, c.req.path, site);
};
