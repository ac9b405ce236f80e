import type { Answer } from "../actions/index.ts";
import { empty, json, type Reply } from "./route.ts";

/** An action's answer as a response. */
export const toReply = (answer: Answer): Reply => (answer.status === 204 ? empty() : json(answer.status, answer.body));
