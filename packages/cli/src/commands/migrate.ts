import type { LogLevel } from "@rootstock/service";
import type { Command } from "commander";
import { CliError, EXIT, EXIT_CODE_HELP } from "../exitCodes.ts";
import { addConfiguration, type Env, loadSettings, settingsEnv } from "../flags.ts";
import { readLogLevel } from "../logLevel.ts";
import { KNOWN_VARIABLES, MIGRATE_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

const loadMigrateConfig = (env: Env): { readonly url: string; readonly logLevel: LogLevel } => {
  const problems: string[] = [];
  const logLevel = readLogLevel(env, problems);
  const name = env.DATABASE_DIRECT_URL ? "DATABASE_DIRECT_URL" : "DATABASE_URL";
  const url = env[name] ?? "";
  // The value holds a password: it is not repeated.
  if (!url) problems.push("DATABASE_URL: required");
  else if (!/^postgres(ql)?:\/\//.test(url)) problems.push(`${name}: want postgres://user:password@host:port/database`);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  return { url, logLevel };
};

/** `rootstock migrate`: the schema alone. */
export const addMigrateCommand = (program: Command, terminal: Terminal): void => {
  const command = program
    .command("migrate")
    .summary("bring the database to this release's schema")
    .description(
      "Applies pending migrations, one at a time under a lock, each whole or not at all. A database that a newer, incompatible release has migrated is refused and left untouched.",
    )
    .option("--status", "only print what is applied and what is pending")
    .option(
      "--check",
      `only check: exit code ${EXIT.schemaDiffers} unless nothing is pending and the schema is compatible`,
    )
    .addHelpText("after", EXIT_CODE_HELP);
  addConfiguration(command, MIGRATE_SETTINGS).action(async (options: { status?: true; check?: true }) => {
    const { createLog } = await import("@rootstock/service");
    const { migrate, migrationStatus } = await import("@rootstock/store");
    const merged = settingsEnv(command, MIGRATE_SETTINGS, terminal.env, KNOWN_VARIABLES);
    const { url, logLevel } = loadSettings(merged, loadMigrateConfig);
    const log = createLog({ level: logLevel, destination: { write: (line) => terminal.err(line.trimEnd()) } });
    const readOnly = options.status || options.check;
    const status = readOnly ? await migrationStatus({ url }) : await migrate({ url, log });
    const lines = [
      `schema version  ${status.version}`,
      `this release    ${status.known}`,
      `compatible      ${status.compatible ? "yes" : `no, needs a release that knows version ${status.minCompatible}`}`,
      `pending         ${status.pending.length === 0 ? "none" : status.pending.join(", ")}`,
    ];
    terminal.out(lines.join("\n"));
    if (options.check && (status.pending.length > 0 || !status.compatible)) {
      throw new CliError("the database is not at this release's schema", { exitCode: EXIT.schemaDiffers });
    }
  });
};
