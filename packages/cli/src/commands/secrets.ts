import type { Resealed, Rewrapped } from "@rootstock/hub";
import type { Command } from "commander";
import { CliError, EXIT_CODE_HELP } from "../exitCodes.ts";
import { addConfiguration, loadSettings, settingsEnv } from "../flags.ts";
import { KNOWN_VARIABLES, SECRETS_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

const DESCRIPTION =
  "Encrypts every stored secret anew that is not under the first key of ROOTSTOCK_KMS and ROOTSTOCK_SECRET, so that former ones may go. Replicas go on running. Stopped in the middle, it may be started again.";

const NAMES: Readonly<Record<keyof Resealed["resealed"], string>> = {
  "runtime-broker-secret": "secrets of runtime brokers",
  "agent-kept-value": "values kept for agents",
  "agent-config-value": "values of agents' configurations",
  "idempotency-answer": "answers kept for repeated calls",
};

/** Why former keys may not go yet; nothing when they may. */
const objections = ({ resealed, unreadable, overtaken, open }: Rewrapped, check: boolean): string[] => [
  ...(check && open > 0 ? [`agents whose configuration is not encrypted yet: ${open}`] : []),
  ...(check && Object.values(resealed).some((n) => n > 0) ? ["former keys are still needed"] : []),
  ...(overtaken ? ["replicas go on encrypting under another key: start them all with the new one first"] : []),
  ...(unreadable.length > 0
    ? [
        `no configured key opens ${unreadable.length} of them, which are left as they are: ${unreadable
          .slice(0, 10)
          .map(({ purpose, rowId }) => `${purpose} ${rowId}`)
          .join(", ")}`,
      ]
    : []),
];

/** `rootstock secrets rewrap`. */
export const addSecretsCommand = (program: Command, terminal: Terminal): void => {
  const secrets = program.command("secrets").summary("look after what is stored encrypted");
  const command = secrets
    .command("rewrap")
    .summary("encrypt stored secrets anew under the present key")
    .description(DESCRIPTION)
    .option("--check", "only count; fails while former keys are needed")
    .addHelpText("after", EXIT_CODE_HELP);
  addConfiguration(command, SECRETS_SETTINGS).action(async (options: { check?: true }) => {
    const { loadStoredSecretsConfig, OlderReplicasError, rewrapStoredSecrets } = await import("@rootstock/hub");
    const { createLog } = await import("@rootstock/service");
    const merged = settingsEnv(command, SECRETS_SETTINGS, terminal.env, KNOWN_VARIABLES);
    const config = loadSettings(merged, loadStoredSecretsConfig);
    const destination = { write: (line: string) => terminal.err(line.trimEnd()) };
    const base = { ...terminal.base, log: createLog({ level: config.logLevel, destination }) };
    const check = options.check === true;
    const done = await rewrapStoredSecrets(config, base, { check }).catch((err: unknown) => {
      throw err instanceof OlderReplicasError ? new CliError(err.message, { cause: err }) : err;
    });
    const what = check ? "under a former key" : "encrypted anew";
    const counts = Object.entries(NAMES).map(([purpose, name]) => {
      const n = done.resealed[purpose as keyof Resealed["resealed"]];
      return `${name.padEnd(34)}${n} ${what}`;
    });
    if (done.open > 0 && !check) counts.push(`${"values that lay open".padEnd(34)}${done.open} encrypted`);
    terminal.out(counts.join("\n"));
    const problems = objections(done, check);
    if (problems.length > 0) throw new CliError(problems.join("\n"));
    terminal.out("former keys may go");
  });
};
