import type { HubClient } from "@rootstock/client";
import { Argument, type Command, Option } from "commander";
import { connect } from "../connection.ts";
import { EXIT_CODE_HELP, UsageError } from "../exitCodes.ts";
import { addSettings, settingsEnv } from "../flags.ts";
import { CLIENT_SETTINGS, KNOWN_VARIABLES } from "../settings.ts";
import type { Terminal } from "../terminal.ts";
import type { Shown } from "./shown.ts";

/** A word that a command wants, in its order. */
export interface Word {
  /** `<user>`, or `[resource]` for one that may be left out. */
  readonly name: string;
  readonly description: string;
  readonly choices?: readonly string[];
}

/** A flag with a value. */
export interface Flag {
  /** `--role <role>`. */
  readonly flag: string;
  readonly description: string;
  readonly choices?: readonly string[];
  readonly defaultsTo?: string;
}

/** What was asked for, at which hub. */
export interface Asked {
  readonly hub: HubClient;
  /** A word that was given; empty for one that was left out. */
  readonly word: (name: string) => string;
  /** A flag's value, by its name without dashes. */
  readonly flag: (name: string) => string | undefined;
}

/** One command for those who run a hub: what it wants, what it asks of the hub, what it shows of the answer. */
export interface OperatorCommand {
  readonly name: string;
  readonly summary: string;
  readonly words?: readonly Word[];
  readonly flags?: readonly Flag[];
  readonly run: (asked: Asked) => Promise<Shown>;
}

/** `rootstock users …`, `rootstock groups …`: commands about one kind of thing. */
export interface OperatorCommands {
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  readonly commands: readonly OperatorCommand[];
}

/** Adds a table of commands to the program. */
export const addOperatorCommands = (program: Command, terminal: Terminal, table: OperatorCommands): void => {
  const parent = program.command(table.name).summary(table.summary).description(table.description);
  for (const command of table.commands) add(parent, terminal, command);
};

const add = (parent: Command, terminal: Terminal, { name, summary, words = [], flags = [], run }: OperatorCommand) => {
  const command = parent
    .command(name)
    .summary(summary)
    .description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`)
    .addHelpText("after", EXIT_CODE_HELP);
  for (const { name, description, choices } of words) {
    const argument = new Argument(name, description);
    command.addArgument(choices ? argument.choices(choices) : argument);
  }
  for (const { flag, description, choices, defaultsTo } of flags) {
    const option = new Option(flag, description);
    if (choices) option.choices(choices);
    if (defaultsTo !== undefined) option.default(defaultsTo);
    command.addOption(option);
  }
  command.option("--json", "the hub's answer as it is");
  addSettings(command, CLIENT_SETTINGS).action(async () => {
    const { env, problems } = settingsEnv(command, CLIENT_SETTINGS, terminal.env, KNOWN_VARIABLES, []);
    if (problems.length > 0) throw new UsageError(problems);
    const shown = await run({
      hub: connect(env, terminal.base),
      word: (wanted) => command.args[words.findIndex((w) => /\w+/.exec(w.name)?.[0] === wanted)] ?? "",
      flag: (wanted) => textOf(command.getOptionValue(wanted)),
    });
    const asJson: unknown = command.getOptionValue("json");
    terminal.out(asJson === true ? JSON.stringify(await shown.json(), null, 2) : await shown.text());
  });
};

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
