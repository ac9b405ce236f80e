import type { Service } from "@rootstock/service";
import { CliError, EXIT } from "./exitCodes.ts";
import type { Terminal } from "./terminal.ts";

/** What a child tells the `rootstock start` that watches it. */
export interface ServingMessage {
  readonly type: "serving";
}

export const isServingMessage = (value: unknown): value is ServingMessage =>
  typeof value === "object" && value !== null && "type" in value && value.type === "serving";

/** Ends of a process that somebody asks for. */
const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

export interface ServeHooks {
  readonly onServing?: () => void;
  /** Called when the process ends without a clean stop, because it was asked twice. */
  readonly onKill?: () => void;
}

/** A second signal within this time is the first one again: some versions of npm pass on what the terminal has already sent. */
const SAME_REQUEST_MS = 500;

/**
 * Runs a service in the foreground until it is asked to stop: by SIGTERM, Ctrl-C or the end of its terminal, or by the
 * end of the `rootstock start` that watches it. The first request drains, a second one ends the process at once.
 */
export const serve = async (service: Service, terminal: Terminal, hooks: ServeHooks = {}): Promise<void> => {
  const { clock } = terminal.base;
  let firstAt: number | undefined;
  let stop: (why: string) => void = () => {};
  const asked = new Promise<string>((resolve) => {
    stop = resolve;
  });
  const onSignal = (signal: string) => {
    firstAt ??= clock.elapsed();
    if (clock.elapsed() - firstAt > SAME_REQUEST_MS) {
      hooks.onKill?.();
      process.exit(EXIT.interrupted);
    }
    stop(signal);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  const onOrphaned = () => stop("parent gone");
  process.once("disconnect", onOrphaned);
  try {
    const started = service.start();
    const first = await Promise.race([started.then(() => undefined), asked]);
    // A stop during the start: `stop` ends what has begun, and the start may then fail for it.
    if (first !== undefined) started.catch(() => {});
    else {
      hooks.onServing?.();
      if (process.connected) process.send?.({ type: "serving" } satisfies ServingMessage);
    }
    const why = await asked;
    terminal.base.log.info({ why }, "stopping");
    await service.stop();
    terminal.base.log.info("stopped");
  } catch (cause) {
    await service.stop().catch(() => {});
    throw new CliError(cause instanceof Error ? cause.message : String(cause), { cause });
  } finally {
    for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
    process.off("disconnect", onOrphaned);
  }
};
