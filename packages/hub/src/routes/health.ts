import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import type { HubStatistics, SchemaVersion } from "@rootstock/store";
import { z } from "zod";
import { anyObject, some } from "../wire/index.ts";
import { anyone } from "./access.ts";
import { PUBLIC } from "./does.ts";
import { json, type Reply, type Route, route } from "./route.ts";

/** What health and readiness are told from. */
export interface HealthDeps {
  readonly clock: Clock;
  /** This release. */
  readonly version: string;
  /** The version of the schema that this code brings. */
  readonly knownSchema: number;
  /** Asks the database; throws when it does not answer. */
  readonly statistics: () => Promise<HubStatistics>;
  /** Asks the database for its schema's version; throws when it does not answer. */
  readonly schema: () => Promise<SchemaVersion | undefined>;
  readonly signals: () => { readonly healthy: boolean; readonly roundTripMs?: number };
  readonly coordination: () => { readonly held: boolean; readonly pooled: boolean };
  readonly draining: () => boolean;
}

/** Shorter than what callers of health checks wait (5 s, spec/02 1.7). */
const ANSWER_WITHIN_MS = 2_000;
/** Nobody needs to be known for a health check, so its cost is bounded: one look at the database serves this long. */
const FRESH_MS = 1_000;

const HEALTHY = "healthy";

const healthStatus = z.object({
  status: z.enum(["healthy", "degraded"]),
  version: z.string(),
  scionVersion: z.string(),
  uptime: z.string(),
  checks: z.record(z.string(), z.string()),
  stats: z.object({
    connectedBrokers: z.int().optional(),
    activeAgents: z.int().optional(),
    projects: z.int().optional(),
  }),
});
const healthReply = healthStatus.extend({ hub: healthStatus });
const readyReply = z.object({
  status: z.enum(["ready", "not_ready"]),
  reason: z.string().optional(),
  checks: anyObject,
});

/** Whether the process lives, and whether it can serve (spec/02 section 8). */
export const healthRoutes = (deps: HealthDeps): Route[] => {
  const started = deps.clock.elapsed();
  const statistics = shared(deps.clock, deps.statistics);
  const schema = shared(deps.clock, deps.schema);

  const health = async (): Promise<Reply> => {
    const counted = await statistics().catch(() => undefined);
    const status = counted ? HEALTHY : "degraded";
    const self = {
      status,
      version: deps.version,
      scionVersion: deps.version,
      uptime: goDuration(deps.clock.elapsed() - started),
      checks: { database: counted ? HEALTHY : "unhealthy" },
      stats: {
        ...some("connectedBrokers", counted?.connectedRuntimeBrokers),
        ...some("activeAgents", counted?.runningAgents),
        ...some("projects", counted?.projects),
      },
    };
    // Clients of a hub with a web server in front look for the hub's own state below `hub`.
    return json(200, { ...self, hub: self });
  };

  const ready = async (): Promise<Reply> => {
    const signals = deps.signals();
    const coordination = deps.coordination();
    const found = await schema().catch((err: unknown) =>
      err instanceof HubError ? err : new HubError("unavailable", ""),
    );
    const unreachable = found instanceof HubError;
    const schemaProblem = unreachable ? "unknown" : schemaFault(found, deps.knownSchema);
    const readOnly = !unreachable && found?.readOnly === true;
    const checks = {
      database: unreachable ? "unavailable" : readOnly ? "read_only" : "ok",
      signals: signals.healthy ? "ok" : "degraded",
      coordination: coordination.held && !coordination.pooled ? "ok" : "degraded",
      schema: schemaProblem ?? "ok",
      ...(signals.roundTripMs !== undefined && { signalRoundTripMs: Math.round(signals.roundTripMs * 10) / 10 }),
    };
    const reason = deps.draining()
      ? "draining"
      : unreachable
        ? "the database does not answer"
        : readOnly
          ? "the database takes no writes"
          : schemaProblem && `schema: ${schemaProblem}`;
    return reason ? json(503, { status: "not_ready", reason, checks }) : json(200, { status: "ready", checks });
  };

  return [
    route({
      method: "GET",
      path: "/healthz",
      access: anyone,
      does: PUBLIC,
      quiet: true,
      summary: "Whether the process lives",
      replies: { 200: healthReply },
      handler: health,
    }),
    route({
      method: "GET",
      path: "/health",
      access: anyone,
      does: PUBLIC,
      quiet: true,
      summary: "Whether the process lives",
      replies: { 200: healthReply },
      handler: health,
    }),
    route({
      method: "GET",
      path: "/readyz",
      access: anyone,
      does: PUBLIC,
      quiet: true,
      summary: "Whether the replica can serve",
      replies: { 200: readyReply, 503: readyReply },
      handler: ready,
    }),
  ];
};

const schemaFault = (found: SchemaVersion | undefined, known: number): string | undefined => {
  if (!found || found.version < known) return "migrations are pending";
  return known < found.minCompatible ? "this release is too old for the database" : undefined;
};

/** `look`, asked at most once at a time and once in a while, and given up on when it takes too long. */
const shared = <T>(clock: Clock, look: () => Promise<T>): (() => Promise<T>) => {
  let latest: { readonly at: number; readonly answer: Promise<T> } | undefined;
  return () => {
    const now = clock.elapsed();
    if (latest && now - latest.at < FRESH_MS) return latest.answer;
    const answer = within(clock, ANSWER_WITHIN_MS, look);
    // Whoever asks handles the failure; without this a failure that nobody asks for any more would end the process.
    answer.catch(() => {});
    latest = { at: now, answer };
    return answer;
  };
};

const within = async <T>(clock: Clock, ms: number, look: () => Promise<T>): Promise<T> => {
  const done = new AbortController();
  try {
    return await Promise.race([
      look(),
      clock.sleep(ms, done.signal).then((): never => {
        throw new HubError("unavailable", `no answer within ${ms} ms`);
      }),
    ]);
  } finally {
    done.abort();
  }
};

/** Milliseconds as Go writes a duration in whole seconds: `5m48s`, `1h0m3s`, `0s`. */
export const goDuration = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  if (h > 0) return `${h}h${m}m${s}s`;
  return m > 0 ? `${m}m${s}s` : `${s}s`;
};
