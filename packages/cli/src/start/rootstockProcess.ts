import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isServingMessage } from "../serve.ts";
import type { DataDirectory } from "./dataDirectory.ts";
import { type ProcessDeps, SupervisedProcess } from "./supervisedProcess.ts";

/** The command that this process was started from; a child runs it with the same Node. */
const ROOTSTOCK = fileURLToPath(new URL("../../bin/rootstock.js", import.meta.url));

const READY_TIMEOUT_MS = 120_000;
/** A replica drains, a runtime broker finishes what it is told to do. */
const STOP_GRACE_MS = 30_000;

/** A child that is one of our own commands and tells when it serves. */
export const rootstockProcess = (
  p: {
    readonly name: string;
    readonly command: "replica" | "runtime-broker";
    readonly data: DataDirectory;
    /** Asked before every start. */
    readonly env: () => Promise<Record<string, string>> | Record<string, string>;
  },
  deps: ProcessDeps,
): SupervisedProcess =>
  new SupervisedProcess(
    {
      name: p.name,
      command: async () => ({
        file: process.execPath,
        args: [ROOTSTOCK, p.command],
        options: { env: { NODE_COMPILE_CACHE: p.data.compiled, ...(await p.env()) } },
      }),
      logFile: join(p.data.logs, `${p.name}.log`),
      channel: true,
      ready: (child) =>
        new Promise((resolve) => {
          child.on("message", (message: unknown) => isServingMessage(message) && resolve());
        }),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopSignal: "SIGTERM",
      stopGraceMs: STOP_GRACE_MS,
    },
    deps,
  );
