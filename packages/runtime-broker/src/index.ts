/** A runtime broker: joins a hub, dials its control channel, runs agents as processes or containers (spec/01). */
export {
  loadRuntimeBrokerConfig,
  RUNTIME_BROKER_ENV,
  type RuntimeBrokerConfig,
  RuntimeBrokerConfigError,
  type RuntimeBrokerOption,
} from "./config.ts";
export { type Harness, harnessSchema, SHELL_HARNESS } from "./harness/harness.ts";
export { JoinRefused } from "./link/join.ts";
export { RuntimeBroker } from "./runtimeBroker.ts";
