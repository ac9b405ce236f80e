import type { Command } from "commander";
import { EXIT_CODE_HELP } from "../exitCodes.ts";
import { addConfiguration, loadSettings, settingsEnv } from "../flags.ts";
import { serve } from "../serve.ts";
import { KNOWN_VARIABLES, START_SETTINGS } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

/** `rootstock start`: a whole cluster on this machine. */
export const addStartCommand = (program: Command, terminal: Terminal): void => {
  const command = program
    .command("start")
    .summary("run a whole cluster on this machine")
    .description(
      "Runs PostgreSQL, several replicas, a load balancer and a runtime broker on this machine, without Docker. Everything listens on 127.0.0.1 only. Data are kept between runs.",
    )
    .addHelpText("after", EXIT_CODE_HELP);
  addConfiguration(command, START_SETTINGS).action(async () => {
    const { LocalCluster } = await import("../start/start.ts");
    const { loadStartConfig } = await import("../start/startConfig.ts");
    const merged = settingsEnv(command, START_SETTINGS, terminal.env, KNOWN_VARIABLES);
    const config = loadSettings(merged, (env) => loadStartConfig(env, process.getuid?.() === 0));
    const cluster = new LocalCluster(config, { ...terminal, env: merged.env });
    await serve(cluster, terminal, { onKill: () => cluster.kill() });
  });
};
