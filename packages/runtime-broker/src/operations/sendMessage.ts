import { z } from "zod";
import { deliveredMessage, deliveryText } from "../messages/deliveryText.ts";
import { MESSAGE_ID } from "../messages/idLog.ts";
import { BrokerApiError } from "../tunnel/errors.ts";
import { flag, parseBody } from "../tunnel/request.ts";
import { agentTurn, type Operation, requireAgent } from "./operation.ts";

const body = z.object({
  interrupt: flag,
  message: z.string().nullish(),
  structured_message: deliveredMessage.nullish(),
  /** The text as the hub has rendered it (spec/08 2.4). */
  delivery_text: z.string().nullish(),
  message_id: z.string().regex(MESSAGE_ID, "must be 1 to 200 printable characters without spaces").nullish(),
});

/**
 * `POST /api/v1/agents/{a}/message` (spec/01 4.6). 200 means that the agent has it now or had it before. An agent that does
 * not run answers 409: the original says 200 there and drops the message.
 */
export const sendMessage: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/message",
  turn: agentTurn,
  async run(call, context) {
    const { agents, delivered } = context;
    const message = parseBody(call.request, body);
    const record = await requireAgent(call, context);
    const place = agents.place(record);
    const messageId = message.message_id ?? undefined;
    if (messageId !== undefined && (await delivered.has(place, messageId))) return { status: 200 };
    const structured = message.structured_message ?? undefined;
    const text = message.delivery_text ?? (structured ? deliveryText(structured) : (message.message ?? ""));
    if (text.includes("\u0000")) throw new BrokerApiError("validation_error", "a message must not contain NUL");
    await agents.runtime.write(place, {
      text,
      raw: structured?.raw ?? false,
      interruptKey: message.interrupt ? agents.harness(record.harness).interruptKey : undefined,
      messageId,
    });
    if (messageId !== undefined) await delivered.add(place, messageId);
    return { status: 200 };
  },
};
