import type { Command } from "commander";
import { CliError, EXIT, EXIT_CODE_HELP } from "../exitCodes.ts";
import { addConfiguration, loadSettings, settingsEnv } from "../flags.ts";
import { KNOWN_VARIABLES, MIGRATE_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

const databaseUrl = (env: Readonly<Record<string, string | undefined>>): string => {
  const url = env.DATABASE_DIRECT_URL || env.DATABASE_URL;
  if (!url) throw new Error("DATABASE_URL: required");
  if (!/^postgres(ql)?:\/\//.test(url))
    throw new Error("DATABASE_URL: want postgres://user:password@host:port/database");
  return url;
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
    const { migrate, migrationStatus } = await import("@rootstock/store");
    const merged = settingsEnv(command, MIGRATE_SETTINGS, terminal.env, KNOWN_VARIABLES);
    const url = loadSettings(merged, databaseUrl);
    const readOnly = options.status || options.check;
    const status = readOnly ? await migrationStatus({ url }) : await migrate({ url, log: terminal.base.log });
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
