import type { Command } from "commander";
import { EXIT_CODE_HELP } from "../exitCodes.ts";
import { addConfiguration, loadSettings, settingsEnv } from "../flags.ts";
import { serve } from "../serve.ts";
import { KNOWN_VARIABLES, REPLICA_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

/** `rootstock replica`: this process is the replica. */
export const addReplicaCommand = (program: Command, terminal: Terminal): void => {
  const command = program
    .command("replica")
    .summary("run one replica of the hub")
    .description(
      "Runs one replica of the hub in the foreground. SIGTERM drains it: it leaves the load balancer, hands its runtime brokers to the other replicas, and exits with 0.",
    )
    .addHelpText("after", EXIT_CODE_HELP);
  addConfiguration(command, REPLICA_SETTINGS).action(async () => {
    const { Hub, loadHubConfig } = await import("@rootstock/hub");
    const { createLog } = await import("@rootstock/service");
    const merged = settingsEnv(command, REPLICA_SETTINGS, terminal.env, KNOWN_VARIABLES);
    const config = loadSettings(merged, (env) => loadHubConfig(env));
    const base = {
      ...terminal.base,
      log: createLog({ level: config.logLevel, fields: { part: "replica" }, buffered: true }),
    };
    const hub = new Hub(config, base);
    await serve(
      hub,
      { ...terminal, base },
      {
        onServing: () => base.log.info(hub.address(), "listening"),
      },
    );
  });
};
