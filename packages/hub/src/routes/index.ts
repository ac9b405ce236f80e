/** Routes per resource: parse, allow, act, reply. */
export * from "./access.ts";
export { TerminalUpgrades } from "./agentTerminal.ts";
export * from "./all.ts";
export { toReply } from "./replies.ts";
export * from "./route.ts";
