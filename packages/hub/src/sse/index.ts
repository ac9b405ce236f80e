/** Events for clients over HTTP: resumable at any replica. */
export * from "./agentMessages.ts";
export * from "./response.ts";
export * from "./sseHub.ts";
export type { SseEnd, SseFrame, SseLimits, SseRequest } from "./sseStream.ts";
