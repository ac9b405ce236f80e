import { z } from "zod";
import { flag, optionalText } from "../tunnel/request.ts";

/** A structured message as a hub sends it; everything a newer hub may add passes unread. */
export const deliveredMessage = z.object({
  timestamp: optionalText,
  sender: optionalText,
  recipients: optionalText,
  msg: z
    .string()
    .nullish()
    .transform((text) => text ?? ""),
  type: optionalText,
  plain: flag,
  raw: flag,
  urgent: flag,
  broadcasted: flag,
  attachments: z.array(z.string()).nullish(),
  channel: optionalText,
  thread_id: optionalText,
});
export type DeliveredMessage = z.infer<typeof deliveredMessage>;

/**
 * The text that is typed into the agent (spec/01 4.6): raw and plain messages as they are, others announced and wrapped
 * between markers, with only the fields that are present.
 */
export const deliveryText = (message: DeliveredMessage): string => {
  if (message.plain || message.raw) return message.msg;
  if (message.msg === "") return "";
  const body = {
    timestamp: message.timestamp ?? "",
    sender: message.sender ?? "",
    ...(message.recipients && { recipients: message.recipients }),
    msg: message.msg,
    type: message.type ?? "instruction",
    ...(message.urgent && { urgent: true }),
    ...(message.broadcasted && { broadcasted: true }),
    ...(message.attachments?.length && { attachments: message.attachments }),
    ...(message.channel && { channel: message.channel }),
    ...(message.thread_id && { thread_id: message.thread_id }),
  };
  return [
    "A message for you has arrived:",
    "",
    "---BEGIN SCION MESSAGE---",
    JSON.stringify(body, null, 2),
    "---END SCION MESSAGE---",
  ].join("\n");
};
