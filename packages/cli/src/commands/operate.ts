import type { Command } from "commander";
import { ACCESS_COMMANDS, AUDIT_COMMANDS } from "../operate/access.ts";
import { addOperatorCommands } from "../operate/command.ts";
import { GROUP_COMMANDS } from "../operate/groups.ts";
import { POLICY_COMMANDS } from "../operate/policies.ts";
import { USER_COMMANDS } from "../operate/users.ts";
import type { Terminal } from "../terminal.ts";

/** `rootstock users`, `groups`, `policies`, `access`, `audit`: who is here, and what they may do. */
export const addOperateCommands = (program: Command, terminal: Terminal): void => {
  for (const table of [USER_COMMANDS, GROUP_COMMANDS, POLICY_COMMANDS, ACCESS_COMMANDS, AUDIT_COMMANDS])
    addOperatorCommands(program, terminal, table);
};
