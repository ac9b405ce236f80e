import { storable } from "@rootstock/protocol";
import type { ClaimedMessage } from "@rootstock/store";
import { type Connection, TunnelError } from "../control/index.ts";

/**
 * What became of one message on the wire:
 *
 *   acknowledged  the runtime broker has taken it
 *   refused       it can never pass; the next one may
 *   held          not now: the agent does not run there, or the runtime broker is in trouble
 *   lost          the socket went; the same id is sent again over the next one
 */
export type DeliveryResult =
  | { readonly kind: "acknowledged" }
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "held"; readonly reason: string }
  | { readonly kind: "lost"; readonly reason: string };

/** After so many attempts that the runtime broker answered with an error of its own, a message is given up. */
const MAX_ATTEMPTS = 8;

/** So much of a runtime broker's words is kept as the reason, in characters. */
const MAX_SAID = 500;

/** Sends a claimed message through the socket (spec/01 4.6; `message_id` as in spec/08 2.4) and reads the answer. */
export const deliver = async (
  message: ClaimedMessage,
  connection: Connection,
  traceparent: string | null | undefined,
): Promise<DeliveryResult> => {
  try {
    const response = await connection.call({
      method: "POST",
      path: `/api/v1/agents/${message.agentSlug}/message`,
      query: new URLSearchParams({ projectId: message.projectId }).toString(),
      priority: "normal",
      traceparent: traceparent ?? undefined,
      body: {
        message_id: message.id,
        interrupt: message.interrupt,
        project_id: message.projectId,
        projectId: message.projectId,
        structured_message: { ...message.envelope, msg: message.msg },
      },
    });
    return readAnswer(message, response.status, storable(response.body.toString("utf8"), MAX_SAID));
  } catch (err) {
    if (!(err instanceof TunnelError)) throw err;
    if (err.kind === "too_large") return { kind: "refused", reason: err.message };
    // In doubt over a socket that lives: at once and again, a runtime broker that answers nonsense would hear nothing else.
    if (err.kind !== "not_sent" && connection.isOpen) return heldOrGivenUp(message, err.message);
    return { kind: "lost", reason: err.message };
  }
};

const readAnswer = (message: ClaimedMessage, status: number, text: string): DeliveryResult => {
  if (status >= 200 && status < 300) return { kind: "acknowledged" };
  const said = `the runtime broker answered ${status}: ${text}`;
  if (status === 409 || status === 401 || status === 429) return { kind: "held", reason: said };
  if (status >= 400 && status < 500) return { kind: "refused", reason: said };
  return heldOrGivenUp(message, said);
};

const heldOrGivenUp = (message: ClaimedMessage, reason: string): DeliveryResult =>
  message.attempts >= MAX_ATTEMPTS
    ? { kind: "refused", reason: `${reason} (given up after ${message.attempts} attempts)` }
    : { kind: "held", reason };
