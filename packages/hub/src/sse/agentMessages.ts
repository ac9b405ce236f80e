import type { Uuid } from "@rootstock/protocol";
import type { SseRequest } from "./sseStream.ts";

/** How long a stream of one agent's messages lives, in milliseconds (spec/02 4.3). */
const LIFETIME_MS = 600_000;

/**
 * The stream of what one person and one agent say to each other (spec/02 4.3): `event: message` with the payload
 * UserMessage, `event: timeout` after ten minutes.
 */
export const agentMessageStream = (p: {
  readonly agentId: Uuid;
  readonly userId: Uuid;
}): Pick<SseRequest, "patterns" | "allow" | "format" | "expireAfterMs"> => ({
  patterns: [`agent.${p.agentId}.message`],
  allow: (event) => event.entity === "message" && event.parties?.includes(p.userId) === true,
  format: (event) => ({ event: "message", data: JSON.stringify(event.data) }),
  expireAfterMs: LIFETIME_MS,
});
