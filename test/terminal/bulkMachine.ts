import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { api, compileCache, eventually, type Replica, recordOutput, type Scene } from "@rootstock/testkit";
import { startAgent } from "./machine.ts";

const COMMAND = fileURLToPath(new URL("../../packages/cli/bin/rootstock.js", import.meta.url));

/** 251 bytes with their end of line: the n-th byte that comes is the (n modulo 251)-th of them. */
export const BULK_LINE = `${Array.from({ length: 250 }, (_, n) => String.fromCharCode(97 + ((n * 7) % 26))).join("")}\n`;

/**
 * A `docker` with one container, whose terminal waits for a key and then prints `BULK_BYTES` bytes of `BULK_LINE` as fast
 * as they are read: a program that is stopped by nothing but its own terminal.
 */
const DOCKER = `#!/bin/sh
home=$(dirname "$0")
case "$1" in
run)
  labels=
  while [ $# -gt 0 ]; do [ "$1" = --label ] && labels="$labels,$2"; shift; done
  echo "\${labels#,}" > "$home/labels"; echo cccccccccccc ;;
ps) [ -f "$home/labels" ] && printf '{"ID":"cccccccccccc","Status":"Up 2 seconds","Labels":"%s"}\\n' "$(cat "$home/labels")" ;;
exec)
  case "$*" in *attach-session*)
    stty raw -echo; printf ready; head -c 1 > /dev/null
    yes "$BULK_LINE" | head -c "$BULK_BYTES"; sleep 1000 ;;
  esac ;;
esac
exit 0
`;

export interface BulkMachine {
  /** The runtime broker's process. */
  readonly pid: number;
  readonly agent: string;
}

/** Our runtime broker in a process of its own, with an agent whose terminal prints `bytes` bytes after the first key. */
export const startBulkMachine = async (scene: Scene, replica: Replica, bytes: number): Promise<BulkMachine> => {
  const directory = await mkdtemp(join(tmpdir(), "bulk-"));
  scene.onEnd(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  await writeFile(join(directory, "docker"), DOCKER);
  await chmod(join(directory, "docker"), 0o755);
  const made = await api(replica, "POST", "/api/v1/brokers", { name: "bulk", autoProvide: true });
  const child = spawn(process.execPath, [COMMAND, "runtime-broker"], {
    env: {
      PATH: `${directory}:${process.env.PATH}`,
      HOME: directory,
      ...compileCache,
      ROOTSTOCK_HUB_URL: replica.url,
      ROOTSTOCK_RUNTIME_BROKER_ID: made.text("brokerId"),
      ROOTSTOCK_JOIN_TOKEN: made.text("joinToken"),
      ROOTSTOCK_RUNTIME_BROKER_STATE: join(directory, "state"),
      ROOTSTOCK_RUNTIME: "container",
      ROOTSTOCK_CONTAINER_IMAGE: "none",
      ROOTSTOCK_LOG_LEVEL: "trace",
      BULK_BYTES: String(bytes),
      BULK_LINE: BULK_LINE.trimEnd(),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  recordOutput(child, "bulk-machine");
  scene.onEnd(() => ended(child));
  await eventually(async () => {
    const found = await api(replica, "GET", `/api/v1/runtime-brokers/${made.text("brokerId")}`);
    return found.get("connectionState") === "connected" && found.get("connectedHubId") !== undefined;
  }, 30_000);
  const agent = await startAgent(replica, await scene.project(replica, "bulk"), "bulk");
  if (child.pid === undefined) throw new Error("the runtime broker has no process");
  return { pid: child.pid, agent };
};

const ended = async (child: ChildProcess): Promise<void> => {
  const over = new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once("exit", () => resolve());
  });
  child.kill("SIGKILL");
  await over;
};
