import { z } from "zod";

/** A call to a runtime broker as it travels between replicas, over HTTP or through the database. */

export const INTERNAL_TUNNEL_PATH = "/internal/v1/tunnel";

/** The most of an answer that is passed on: a log, or the output of a command. */
export const MAX_RELAYED_BYTES = 32 * 1_048_576;

/** A request as it travels between replicas. */
export const relayedRequest = z.object({
  runtimeBrokerId: z.string(),
  method: z.string(),
  path: z.string(),
  query: z.string().optional(),
  /** Base64. */
  body: z.string().optional(),
  timeoutMs: z.number().int().positive(),
  traceparent: z.string().optional(),
});
export type RelayedRequest = z.infer<typeof relayedRequest>;

export const relayedResponse = z.object({
  status: z.number().int(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
});
export type RelayedResponse = z.infer<typeof relayedResponse>;
