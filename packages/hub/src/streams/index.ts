/** Calls and streams that reach a runtime broker from any replica (design section 8). */

export * from "./agentStream.ts";
export * from "./agentStreams.ts";
export { NO_LONGER_ALLOWED, refusalOf, type ViewerClose } from "./closeCodes.ts";
export * from "./detours.ts";
export * from "./logFollower.ts";
export { fromEventId } from "./logMark.ts";
export * from "./mailbox.ts";
export { isOwnerIn } from "./ownerMoved.ts";
export { INTERNAL_STREAMS_PATH } from "./peerFrames.ts";
export * from "./peerLink.ts";
export * from "./peerStreams.ts";
export * from "./portTunnels.ts";
export * from "./postgresLink.ts";
export * from "./relay.ts";
export * from "./relayedCall.ts";
export * from "./sealedFrames.ts";
export * from "./tending.ts";
export * from "./viewer.ts";
