import type { Answer } from "../actions/index.ts";
import { json, type Reply } from "./route.ts";

/** An action's answer as a response; one without a body when there is nothing to say. */
export const toReply = (answer: Answer): Reply =>
  answer.status === 204 || (answer.status === 202 && answer.body === null)
    ? new Response(null, { status: answer.status })
    : json(answer.status, answer.body);
