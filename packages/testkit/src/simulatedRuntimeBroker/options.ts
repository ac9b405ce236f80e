import type { SimulatedHandler } from "../simulatedAgents.ts";
import type { SimulatedCredentials } from "./join.ts";

export interface SimulatedRuntimeBrokerOptions {
  /** The hub's base URL; a function is asked at every dial, like a load balancer in miniature. */
  readonly hubUrl: string | (() => string);
  readonly credentials: SimulatedCredentials;
  /** `rootstock` runs requests at once, reads 1 MiB and says so; the default has the habits of spec/01 section 0. */
  readonly like?: "unmodified" | "rootstock";
  readonly concurrentRequests?: number;
  /** Answers requests; by default `SimulatedAgents`. */
  readonly handle?: SimulatedHandler;
  /** Whether it dials again after losing its session. True unless said otherwise. */
  readonly redials?: boolean;
  /** The first wait after a failed dial in milliseconds, doubling up to 60 s. The original's is 1,000. */
  readonly firstRetryMs?: number;
  /** The keys that tunnelled requests are verified with; after a live reload not always the present one (1.5). */
  readonly verifyingKeys?: readonly string[];
  /** The window of its streams' credits (`rootstock` only); null: it knows none. */
  readonly streamWindowBytes?: number | null;
  /** Whether it sends `connect`. True unless said otherwise. */
  readonly sendsConnect?: boolean;
  /**
   * After a request that took longer, the unmodified one answers, drops the connection and dials anew, because it has
   * read nothing meanwhile (spec/01 section 0, 5: 30 to 60 s). Never unless given, in milliseconds.
   */
  readonly dropsAfterMs?: number;
}

/** One session that was established. */
export interface SimulatedSession {
  readonly sessionId: string;
  readonly hubUrl: string;
  /** The hub's first frame. */
  readonly connected: Readonly<Record<string, unknown>>;
}

/** How a session ended. */
export interface SimulatedClose extends SimulatedSession {
  readonly code: number;
  readonly reason: string;
}
