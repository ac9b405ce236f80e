import { z } from "zod";
import type { AgentStreamRequest, LogRequest } from "./agentStream.ts";

/** Where replicas dial each other: one socket per stream. Output and input are binary messages, the rest is JSON. */
export const INTERNAL_STREAMS_PATH = "/internal/v1/streams";

const bytes = z.number().int().min(1);

/** From the replica that the viewer is connected to. */
export const fromEntry = z.discriminatedUnion("type", [
  z.object({ type: z.literal("resize"), cols: z.number().int(), rows: z.number().int() }),
  z.object({ type: z.literal("consumed"), bytes }),
]);
export type FromEntry = z.infer<typeof fromEntry>;

/** From the replica that holds the runtime broker's socket. A socket that closes without `end` was lost. */
export const fromOwner = z.discriminatedUnion("type", [
  z.object({ type: z.literal("taken"), bytes }),
  z.object({ type: z.literal("end"), reason: z.string(), code: z.number().int().optional() }),
]);
export type FromOwner = z.infer<typeof fromOwner>;

const side = z.coerce.number().int().min(1).max(1_000);
const agent = { runtimeBrokerId: z.uuid(), slug: z.string().min(1), projectId: z.uuid() };
const terminalQuery = z.object({
  ...agent,
  // Replicas of older versions know no other kind, and do not name it.
  streamType: z.literal("pty").default("pty"),
  cols: side,
  rows: side,
  readonly: z.enum(["true", "false"]).transform((v) => v === "true"),
});
/** Lacks what older versions ask for: they refuse it, instead of taking it for a terminal. */
const logQuery = z.object({
  ...agent,
  streamType: z.literal("logs"),
  tail: z.coerce.number().int().min(0),
  after: z.string().optional(),
}) satisfies z.ZodType<LogRequest>;
const streamQuery = z.union([logQuery, terminalQuery]);

/** The request as a URL's query. */
export const toQuery = (request: AgentStreamRequest): string =>
  new URLSearchParams(
    Object.entries(request).flatMap(([name, value]): [string, string][] =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  ).toString();

/** What `toQuery` made; undefined for anything else. */
export const fromQuery = (query: string): AgentStreamRequest | undefined =>
  streamQuery.safeParse(Object.fromEntries(new URLSearchParams(query))).data;
