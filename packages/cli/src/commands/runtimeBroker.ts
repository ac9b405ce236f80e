import { hostname } from "node:os";
import type { HubClient } from "@rootstock/client";
import type { Command } from "commander";
import { connect } from "../connection.ts";
import { EXIT_CODE_HELP, UsageError } from "../exitCodes.ts";
import { addConfiguration, loadSettings, settingsEnv } from "../flags.ts";
import { serve } from "../serve.ts";
import { JOIN_TOKEN_SETTINGS, KNOWN_VARIABLES, RUNTIME_BROKER_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

type MutableEnv = Record<string, string | undefined>;

/** Fetches a join token for `--register` and puts it where the runtime broker looks for one. */
const register = async (env: MutableEnv, terminal: Terminal): Promise<MutableEnv> => {
  const wanted = env.ROOTSTOCK_RUNTIME_BROKER_REGISTER;
  if (!wanted || wanted === "0") return env;
  const hub = connect(env, terminal.base);
  const ticket = await untilUp(hub, terminal, () =>
    hub.runtimeBrokers.register({
      name: env.ROOTSTOCK_RUNTIME_BROKER_NAME || hostname(),
      brokerId: env.ROOTSTOCK_RUNTIME_BROKER_ID || env.SCION_BROKER_ID || undefined,
      autoProvide: true,
    }),
  );
  return {
    ...env,
    ROOTSTOCK_HUB_URL: hub.http.baseUrl,
    ROOTSTOCK_JOIN_TOKEN: ticket.joinToken,
    ROOTSTOCK_RUNTIME_BROKER_ID: ticket.brokerId,
  };
};

/** How long `--register` waits for a hub that is only coming up, as after a power cut. */
const PATIENCE_MS = 60_000;
const RETRY_MS = 500;

const untilUp = async <T>(hub: HubClient, terminal: Terminal, call: () => Promise<T>): Promise<T> => {
  const { clock } = terminal.base;
  const giveUpAt = clock.elapsed() + PATIENCE_MS;
  for (;;) {
    try {
      await hub.system.ready({ timeoutMs: 2_000 });
      break;
    } catch (err) {
      if (clock.elapsed() >= giveUpAt) throw err;
      await clock.sleep(RETRY_MS);
    }
  }
  return call();
};

/** `rootstock runtime-broker`: this process is the runtime broker. */
export const addRuntimeBrokerCommand = (program: Command, terminal: Terminal): void => {
  const command = program
    .command("runtime-broker")
    .summary("run agents on this machine for a hub")
    .description(
      "Runs a runtime broker in the foreground: joins the hub once with a join token, keeps the credentials it gets in a file that only its user can read, and from then on dials the hub. SIGTERM ends it; its agents go on running and are found again.",
    )
    .addHelpText("after", EXIT_CODE_HELP);
  addJoinTokenCommand(command, terminal);
  addConfiguration(command, RUNTIME_BROKER_SETTINGS).action(async () => {
    const { loadRuntimeBrokerConfig, RuntimeBroker } = await import("@rootstock/runtime-broker");
    const { createLog } = await import("@rootstock/service");
    const merged = settingsEnv(command, RUNTIME_BROKER_SETTINGS, terminal.env, KNOWN_VARIABLES);
    // Checked before the hub is asked for anything, then read again with the token that it gave.
    loadSettings(merged, (env) => loadRuntimeBrokerConfig(env));
    const config = loadRuntimeBrokerConfig(await register(merged.env, terminal));
    const base = {
      ...terminal.base,
      log: createLog({ level: config.logLevel, fields: { part: "runtime-broker" }, buffered: true }),
    };
    await serve(new RuntimeBroker(base, config), { ...terminal, base });
  });
};

const addJoinTokenCommand = (runtimeBroker: Command, terminal: Terminal): void => {
  const command = runtimeBroker
    .command("join-token")
    .summary("register a runtime broker and print what it needs to join")
    .description(
      "Registers a runtime broker at the hub and prints the command that joins it, on whatever machine. The token is good once, for an hour.",
    )
    .option("--auto-provide", "every project may use it")
    .addHelpText("after", EXIT_CODE_HELP);
  addConfiguration(command, JOIN_TOKEN_SETTINGS).action(async (options: { autoProvide?: true }) => {
    const merged = settingsEnv(command, JOIN_TOKEN_SETTINGS, terminal.env, KNOWN_VARIABLES);
    if (merged.problems.length > 0) throw new UsageError(merged.problems);
    const hub = connect(merged.env, terminal.base);
    const ticket = await hub.runtimeBrokers.register({
      name: merged.env.ROOTSTOCK_RUNTIME_BROKER_NAME || hostname(),
      autoProvide: options.autoProvide === true,
    });
    terminal.err(`good once, until ${ticket.expiresAt}`);
    terminal.out(
      [
        `ROOTSTOCK_HUB_URL=${hub.http.baseUrl}`,
        `ROOTSTOCK_RUNTIME_BROKER_ID=${ticket.brokerId}`,
        `ROOTSTOCK_JOIN_TOKEN=${ticket.joinToken}`,
      ].join("\n"),
    );
  });
};
