import { z } from "zod";

/**
 * What the runtime broker and a session host say to each other: one JSON object per line over the host's socket. A host
 * outlives upgrades of the runtime broker, so both ends ignore fields they do not know, and nothing here is ever renamed.
 */

const size = { cols: z.number().int().min(1).max(1000), rows: z.number().int().min(1).max(1000) };

/** Written to the host's standard input, once. */
export const hostSpec = z.object({
  sessionId: z.string(),
  socketPath: z.string(),
  /** `session.json`, `exit.json`, `typed.ids` and `agent.log` are kept here. */
  directory: z.string(),
  command: z.array(z.string()).min(1),
  cwd: z.string(),
  env: z.record(z.string(), z.string()),
  maxLogBytes: z.number().int().positive(),
  /** How long to wait for the first output before the session counts as ready. */
  readyMs: z.number().int(),
  ...size,
});
export type HostSpec = z.infer<typeof hostSpec>;

/** Written by the host on its standard output once it listens; afterwards it writes there no more. */
export const hostReady = z.discriminatedUnion("ready", [
  z.object({ ready: z.literal(true) }),
  z.object({ ready: z.literal(false), reason: z.string() }),
]);

export const hostRequest = z.discriminatedUnion("op", [
  z.object({
    op: z.literal("type"),
    id: z.number(),
    text: z.string(),
    raw: z.boolean(),
    interruptKey: z.enum(["C-c", "Escape"]).optional(),
    messageId: z.string().optional(),
  }),
  z.object({ op: z.literal("exec"), id: z.number(), command: z.array(z.string()).min(1), timeoutMs: z.number() }),
  z.object({ op: z.literal("capture"), id: z.number(), escapes: z.boolean() }),
  z.object({ op: z.literal("stop"), id: z.number(), graceMs: z.number() }),
  z.object({ op: z.literal("attach"), id: z.number(), ...size, readonly: z.boolean().optional() }),
  z.object({ op: z.literal("input"), data: z.base64() }),
  z.object({ op: z.literal("resize"), ...size }),
]);
export type HostRequest = z.infer<typeof hostRequest>;

/** From the host: the reply to a request (`id`), or an event. */
export const hostMessage = z.union([
  z.object({ id: z.number(), error: z.string(), inputNotTaken: z.boolean().optional() }),
  z.object({
    id: z.number(),
    output: z.string().optional(),
    exitCode: z.number().optional(),
    /** To `attach`: what is typed is acknowledged with `taken`. Hosts of older versions say nothing. */
    acknowledgesInput: z.boolean().optional(),
  }),
  z.object({ event: z.literal("output"), data: z.base64() }),
  /** So many more bytes of `input` are in the program's terminal. */
  z.object({ event: z.literal("taken"), bytes: z.number().int().min(1) }),
  z.object({ event: z.literal("exit"), exitCode: z.number() }),
]);
export type HostMessage = z.infer<typeof hostMessage>;

/** `session.json`: a session has been started. */
export const sessionFile = z.object({
  sessionId: z.string(),
  socketPath: z.string(),
  hostPid: z.number().int(),
  pid: z.number().int(),
  startedAt: z.number(),
});

/** `exit.json`: that session has ended. */
export const exitFile = z.object({
  sessionId: z.string(),
  /** 0 for one that was asked to stop. */
  exitCode: z.number().int(),
  at: z.number(),
});

/** No line is longer, in bytes. */
export const MAX_LINE_BYTES = 4_194_304;
/** A viewer that lets so much pile up misses what follows and is repainted; so much input that nobody takes ends the attachment. */
export const MAX_PENDING_BYTES = 4_194_304;
