/** Routes per resource: parse, allow, act, reply. */

export * from "./access.ts";
export { type OpenedTerminal, TerminalUpgrades } from "./agentTerminal.ts";
export * from "./all.ts";
export * from "./does.ts";
export * from "./eventSubjects.ts";
export { answersToPeers } from "./internal.ts";
export * from "./limited.ts";
export {
  answersOf,
  contentTypesOf,
  type DeclaredAnswer,
  type JsonSchema,
  jsonShapeOf,
  openApiDocument,
  selfContained,
} from "./openapi/index.ts";
export { isRefusal, refusalEvent } from "./refusals.ts";
export { toReply } from "./replies.ts";
export { demand } from "./rights.ts";
export * from "./route.ts";
export * from "./shapes.ts";
export * from "./upgrades.ts";
export { errorPage, signInFirst, wantsHtml } from "./web/index.ts";
