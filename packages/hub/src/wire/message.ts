import type { MessageRow } from "@rootstock/store";
import { z } from "zod";
import { some, time } from "./fields.ts";
import { id, timestamp } from "./schemas.ts";

/** A stored message as clients see it (spec/02 4.2). */
export const messageReply = z
  .object({
    id: id,
    projectId: id,
    groveId: id,
    sender: z.string(),
    senderId: z.string(),
    recipient: z.string(),
    recipientId: z.string(),
    msg: z.string(),
    type: z.string(),
    agentId: z.string(),
    read: z.boolean(),
    urgent: z.boolean().optional(),
    broadcasted: z.boolean().optional(),
    groupId: z.string().optional(),
    channel: z.string().optional(),
    threadId: z.string().optional(),
    createdAt: timestamp,
    dispatchState: z.enum(["pending", "dispatched", "failed"]),
    dispatchedAt: timestamp.optional(),
  })
  .meta({ id: "Message" });
export type MessageJson = z.infer<typeof messageReply>;

/** A message to a person has no state: it is there to be read, which older clients know as dispatched. */
const dispatchState = (state: MessageRow["state"]): MessageJson["dispatchState"] => {
  switch (state) {
    case "pending":
    case "delivering":
      return "pending";
    case "failed":
      return "failed";
    default:
      return "dispatched";
  }
};

/** The message. */
export const messageJson = (m: MessageRow): MessageJson => ({
  id: m.id,
  projectId: m.project_id,
  groveId: m.project_id,
  sender: m.sender,
  senderId: m.sender_id ?? m.outside_sender_id ?? "",
  recipient: m.recipient,
  recipientId: m.recipient_id ?? "",
  msg: m.msg,
  type: m.type,
  agentId: m.agent_id ?? "",
  read: m.read,
  ...some("urgent", m.urgent),
  ...some("broadcasted", m.broadcasted),
  ...some("groupId", m.group_id),
  ...some("channel", m.channel),
  ...some("threadId", m.thread_id),
  createdAt: time(m.created),
  dispatchState: dispatchState(m.state),
  ...(m.dispatched_at && { dispatchedAt: time(m.dispatched_at) }),
});
