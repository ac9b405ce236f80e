import type { MessageRow } from "@rootstock/store";
import { some, time } from "./fields.ts";

/** A stored message as clients see it (spec/02 4.2). */
export interface MessageJson {
  readonly id: string;
  readonly projectId: string;
  readonly groveId: string;
  readonly sender: string;
  readonly senderId: string;
  readonly recipient: string;
  readonly recipientId: string;
  readonly msg: string;
  readonly type: string;
  readonly agentId: string;
  readonly read: boolean;
  readonly urgent?: boolean;
  readonly broadcasted?: boolean;
  readonly groupId?: string;
  readonly channel?: string;
  readonly threadId?: string;
  readonly createdAt: string;
  readonly dispatchState: "pending" | "dispatched" | "failed";
  readonly dispatchedAt?: string;
}

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
  senderId: m.sender_id ?? "",
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
