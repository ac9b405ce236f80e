import { z } from "zod";

/** The structured message, version 1, as clients and runtime brokers exchange it (spec/02 4.1). Limits are enforced. */

export const MESSAGE_TYPES = [
  "instruction",
  "input-needed",
  "state-change",
  "assistant-reply",
  "group-set",
  "mention",
  "system",
] as const;

export const MAX_MESSAGE_BYTES = 65_536;

const metadata = z
  .record(z.string().max(256), z.string().max(4096))
  .refine((m) => Object.keys(m).length <= 32, "at most 32 entries");

/** Absent, null and empty mean the same to the Go clients: they leave zero values out or send them, as they like. */
const optionalText = z.string().nullish();

export const structuredMessageSchema = z.object({
  version: z.number().int().nullish(),
  timestamp: optionalText,
  sender: optionalText,
  sender_id: optionalText,
  recipient: optionalText,
  recipient_id: optionalText,
  recipients: optionalText,
  msg: z
    .string()
    .refine((s) => Buffer.byteLength(s) <= MAX_MESSAGE_BYTES, `at most ${MAX_MESSAGE_BYTES} bytes`)
    .refine((s) => !s.includes("\u0000"), "must not contain NUL"),
  type: z.enum(MESSAGE_TYPES).or(z.literal("")).nullish(),
  plain: z.boolean().nullish(),
  raw: z.boolean().nullish(),
  urgent: z.boolean().nullish(),
  broadcasted: z.boolean().nullish(),
  observer_only: z.boolean().nullish(),
  status: optionalText,
  attachments: z.array(z.string().max(4096)).max(10).nullish(),
  metadata: metadata.nullish(),
  channel: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,64}$/)
    .or(z.literal(""))
    .nullish(),
  thread_id: z.string().max(256).nullish(),
  visibility: z.enum(["normal", "verbose", "full"]).or(z.literal("")).nullish(),
});
export type StructuredMessageInput = z.infer<typeof structuredMessageSchema>;

/** A message as the hub stores and delivers it: senders and recipients resolved, zero values left out. */
export interface StructuredMessage {
  readonly version: 1;
  readonly timestamp: string;
  readonly sender: string;
  readonly sender_id?: string;
  readonly recipient: string;
  readonly recipient_id?: string;
  readonly recipients?: string;
  readonly msg: string;
  readonly type: string;
  readonly plain?: true;
  readonly raw?: true;
  readonly urgent?: true;
  readonly broadcasted?: true;
  readonly observer_only?: true;
  readonly status?: string;
  readonly attachments?: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly channel?: string;
  readonly thread_id?: string;
  readonly visibility?: string;
}
