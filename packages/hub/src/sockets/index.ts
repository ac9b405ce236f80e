/** WebSockets at large: how they are accepted and kept alive, and the calls that replicas have with each other over them. */
export * from "./calledByPeers.ts";
export * from "./keepalive.ts";
export { INTERNAL_CALLS_PATH, type PeerAnswer } from "./peerCallFrames.ts";
export * from "./peerCalls.ts";
export * from "./upgrades.ts";
