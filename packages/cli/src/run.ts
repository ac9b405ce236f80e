import { HubResponseError, HubUnreachableError } from "@rootstock/client";
import { createLog, systemClock, systemRandom } from "@rootstock/service";
import { Command, CommanderError } from "commander";
import { addAgentCommand } from "./commands/agent.ts";
import { addLoginCommands } from "./commands/login.ts";
import { addMigrateCommand } from "./commands/migrate.ts";
import { addOperateCommands } from "./commands/operate.ts";
import { addReplicaCommand } from "./commands/replica.ts";
import { addRuntimeBrokerCommand } from "./commands/runtimeBroker.ts";
import { addSecretsCommand } from "./commands/secrets.ts";
import { addStartCommand } from "./commands/start.ts";
import { addTraceCommand } from "./commands/trace.ts";
import { CliError, EXIT, EXIT_CODE_HELP, UsageError } from "./exitCodes.ts";
import type { Env } from "./flags.ts";
import type { Terminal } from "./terminal.ts";

const VERSION = "0.1.0";

const buildProgram = (terminal: Terminal): Command => {
  const program = new Command("rootstock")
    .description("A hub for fleets of coding agents: equal replicas before one PostgreSQL.")
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError("(--help says more)")
    .configureOutput({
      writeOut: (text) => terminal.out(text.replace(/\n$/, "")),
      writeErr: (text) => terminal.err(text.replace(/\n$/, "")),
    })
    .addHelpText("after", EXIT_CODE_HELP);
  addStartCommand(program, terminal);
  addReplicaCommand(program, terminal);
  addMigrateCommand(program, terminal);
  addSecretsCommand(program, terminal);
  addRuntimeBrokerCommand(program, terminal);
  addLoginCommands(program, terminal);
  addAgentCommand(program, terminal);
  addTraceCommand(program, terminal);
  addOperateCommands(program, terminal);
  return program;
};

/** Prints what went wrong, as plainly as it can be said, and returns the exit code. */
const report = (err: unknown, terminal: Terminal): number => {
  if (err instanceof CommanderError) return err.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (err instanceof UsageError) {
    terminal.err(`rootstock: invalid usage\n${err.message}`);
    return err.exitCode;
  }
  if (err instanceof CliError) {
    terminal.err(`rootstock: ${err.message}`);
    return err.exitCode;
  }
  if (err instanceof HubResponseError) {
    const id = err.requestId ? `, request ${err.requestId}` : "";
    terminal.err(`rootstock: ${err.message} (${err.code}, status ${err.status}${id})`);
    if (err.status === 401) terminal.err('rootstock: "rootstock login" logs in anew');
    return EXIT.failed;
  }
  if (err instanceof HubUnreachableError) {
    terminal.err(`rootstock: ${err.message}`);
    return EXIT.failed;
  }
  terminal.err(`rootstock: ${err instanceof Error ? (err.stack ?? err.message) : String(err)}`);
  return EXIT.failed;
};

/** Runs one command line (without the program's own name) and returns its exit code. Never throws. */
export const run = async (
  args: readonly string[],
  env: Env,
  output: { readonly out: (text: string) => void; readonly err: (text: string) => void },
): Promise<number> => {
  const base = { clock: systemClock, random: systemRandom, log: createLog({ level: "silent" }) };
  const terminal: Terminal = { env, base, ...output };
  try {
    await buildProgram(terminal).parseAsync(args, { from: "user" });
    return EXIT.ok;
  } catch (err) {
    return report(err, terminal);
  }
};
