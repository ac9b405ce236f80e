import { type HubClient, HubResponseError } from "@rootstock/client";
import { parseUuid, type Trace } from "@rootstock/protocol";
import type { Command } from "commander";
import { connect } from "../connection.ts";
import { CliError, EXIT_CODE_HELP, UsageError } from "../exitCodes.ts";
import { addSettings, settingsEnv } from "../flags.ts";
import { CLIENT_SETTINGS, KNOWN_VARIABLES } from "../settings.ts";
import type { Terminal } from "../terminal.ts";
import { traceText } from "../trace/traceText.ts";

/** `rootstock trace ID`: where a message or an operation is. */
export const addTraceCommand = (program: Command, terminal: Terminal): void => {
  const command = program
    .command("trace <id>")
    .summary("tell where a message or an operation is")
    .description(
      "Tells each step of a message or an operation, with its time, replica, runtime broker and attempt, what it waits for, and what will happen next. The id is that of the answer to `agent message`, of a log line, or of `GET /api/v1/agents/{id}/dispatches`.",
    )
    .option("--json", "the hub's answer as it is")
    .addHelpText("after", EXIT_CODE_HELP);
  addSettings(command, CLIENT_SETTINGS).action(async (given: string, options: { readonly json?: true }) => {
    const { env, problems } = settingsEnv(command, CLIENT_SETTINGS, terminal.env, KNOWN_VARIABLES, []);
    const id = parseUuid(given);
    if (id === undefined)
      throw new UsageError([...problems, `<id>: want the UUID of a message or an operation, got "${given}"`]);
    if (problems.length > 0) throw new UsageError(problems);
    const trace = await find(connect(env, terminal.base), id);
    terminal.out(options.json ? JSON.stringify(trace, null, 2) : traceText(trace));
  });
};

/** Ids are unique across both. */
const find = async (hub: HubClient, id: string): Promise<Trace> => {
  const trace = (await unlessAbsent(hub.traces.message(id))) ?? (await unlessAbsent(hub.traces.dispatch(id)));
  if (!trace) throw new CliError(`there is no message and no operation ${id} that you may see`);
  return trace;
};

const unlessAbsent = async (asked: Promise<Trace>): Promise<Trace | undefined> => {
  try {
    return await asked;
  } catch (err) {
    if (err instanceof HubResponseError && err.status === 404) return undefined;
    throw err;
  }
};
