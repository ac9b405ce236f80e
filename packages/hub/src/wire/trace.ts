import type { DispatchSummary, Trace } from "@rootstock/protocol";
import { z } from "zod";
import { count, timestamp } from "./schemas.ts";

/** The traces of messages and operations as clients see them; what the fields mean is told with their types. */

const event = z.enum(["accepted", "claimed", "given_back", "delivered", "done", "failed", "expired"]);
const place = z.object({ id: z.string(), name: z.string().optional() });

export const traceReply = z
  .object({
    id: z.string(),
    kind: z.enum(["message", "dispatch"]),
    op: z.string().optional(),
    state: z.string(),
    projectId: z.string().optional(),
    agent: z.object({ id: z.string(), slug: z.string() }).optional(),
    attempts: count,
    maxAttempts: count.optional(),
    error: z.string().optional(),
    traceparent: z.string().optional(),
    hops: z
      .array(
        z.object({
          event,
          at: timestamp.optional(),
          replica: place.optional(),
          runtimeBroker: place.optional(),
          session: z.string().optional(),
          attempt: count.optional(),
          reason: z.string().optional(),
          waitedMs: count.optional(),
          waitedFor: z.string().optional(),
          times: count.optional(),
          lastAt: timestamp.optional(),
        }),
      )
      .readonly(),
    hopsOmitted: z.literal(true).optional(),
    waiting: z.object({ since: timestamp, reasons: z.array(z.string()).readonly() }).optional(),
    next: z.array(z.object({ event, at: timestamp.optional(), when: z.string() })).readonly(),
  })
  .meta({ id: "Trace" }) satisfies z.ZodType<Loose<Trace>>;

export const dispatchSummaryReply = z
  .object({
    id: z.string(),
    op: z.string(),
    state: z.string(),
    attempts: count,
    error: z.string().optional(),
    createdAt: timestamp,
    updatedAt: timestamp,
  })
  .meta({ id: "DispatchSummary" }) satisfies z.ZodType<Loose<DispatchSummary>>;

/** Optional fields as schemas infer them. */
type Loose<T> = T extends readonly (infer E)[]
  ? readonly Loose<E>[]
  : T extends object
    ? { readonly [K in keyof T]: Loose<T[K]> | (undefined extends T[K] ? undefined : never) }
    : T;
