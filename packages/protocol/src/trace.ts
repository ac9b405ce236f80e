import type { Uuid } from "./ids.ts";

/** Where a message or an operation has been, why it waits, and what will happen next: the answer of the trace routes. */

/** A replica or a runtime broker. Names are those of today, or the last known. */
export interface TracePlace {
  readonly id: Uuid;
  readonly name?: string;
}

/**
 *   accepted    a replica has committed it
 *   claimed     the replica that holds the runtime broker's socket has taken it, to carry it out
 *   given_back  the attempt came to nothing; it waits again
 *   delivered   a message: the runtime broker has acknowledged it, or it lies in a person's inbox
 *   done        an operation: the runtime broker has carried it out
 *   failed      for good
 *   expired     an operation: nobody took it in time, or its caller withdrew it; it never runs
 */
export type TraceEvent = "accepted" | "claimed" | "given_back" | "delivered" | "done" | "failed" | "expired";

/** One step of the way. */
export interface TraceHop {
  readonly event: TraceEvent;
  /** RFC 3339, by the database's clock. Absent where it was not written down. */
  readonly at?: string;
  readonly replica?: TracePlace;
  readonly runtimeBroker?: TracePlace;
  /** The socket of the runtime broker; new at each connect. */
  readonly session?: Uuid;
  readonly attempt?: number;
  /** Why it was given back, failed or expired; of a message that was accepted from a plugin, from whom. */
  readonly reason?: string;
  /** Of a claim: for how long it had waited, and for what where that is known. */
  readonly waitedMs?: number;
  readonly waitedFor?: string;
  /** How often this was repeated over the same socket for the same reason, and the last time. Absent for once. */
  readonly times?: number;
  readonly lastAt?: string;
}

/** What may happen next. */
export interface TraceNext {
  readonly event: TraceEvent;
  /** When at the latest or at the earliest, as `when` says. Absent for what depends on others. */
  readonly at?: string;
  readonly when: string;
}

/** The trace of a message or an operation. */
export interface Trace {
  readonly id: Uuid;
  readonly kind: "message" | "dispatch";
  /** What an operation does: create, start, stop, … */
  readonly op?: string;
  /** As it is stored: pending, delivering, delivered, failed; in_progress, done, expired. */
  readonly state: string;
  readonly projectId?: Uuid;
  readonly agent?: { readonly id: Uuid; readonly slug: string };
  readonly attempts: number;
  readonly maxAttempts?: number;
  readonly error?: string;
  /** The trace that it belongs to elsewhere (W3C Trace Context). */
  readonly traceparent?: string;
  /** In order of time. */
  readonly hops: readonly TraceHop[];
  /** So many attempts came to nothing that the earliest are left out. */
  readonly hopsOmitted?: true;
  /** Everything that it waits for now. */
  readonly waiting?: { readonly since: string; readonly reasons: readonly string[] };
  /** Empty once it is over. */
  readonly next: readonly TraceNext[];
}

/** An operation in a list. */
export interface DispatchSummary {
  readonly id: Uuid;
  readonly op: string;
  readonly state: string;
  readonly attempts: number;
  readonly error?: string;
  readonly createdAt: string;
  readonly updatedAt: string;
}
