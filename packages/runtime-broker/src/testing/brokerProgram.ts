import { createLog, systemClock, systemRandom } from "@rootstock/service";
import { loadRuntimeBrokerConfig } from "../config.ts";
import { RuntimeBroker } from "../runtimeBroker.ts";

/** A runtime broker as a process of its own, for tests that kill it. Configured by its environment alone. */
const config = loadRuntimeBrokerConfig();
const broker = new RuntimeBroker(
  { clock: systemClock, random: systemRandom, log: createLog({ level: config.logLevel }) },
  config,
);
process.on("SIGTERM", () => void broker.stop().then(() => process.exit(0)));
await broker.start();
