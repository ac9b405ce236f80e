import { join } from "node:path";
import { systemClock } from "@rootstock/service";
import { writeDurably } from "../../files.ts";
import { type HostSpec, hostSpec } from "./hostProtocol.ts";
import { HostServer } from "./hostServer.ts";
import { PtySession } from "./session.ts";

/**
 * The program of a session host: a process of its own per agent, detached, so that the agent outlives the runtime broker.
 * It gets its orders on standard input (they contain secrets, which no command line or file should), says once on standard
 * output whether it is ready, and ends with the agent's program.
 */

/** What an agent gets to end by itself when the machine shuts down. */
const SHUTDOWN_GRACE_MS = 5_000;

const readInput = async (): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString("utf8");
};

/** Says it and closes standard output. Whoever started this process may be gone: then nobody reads it. */
const report = (message: { ready: true } | { ready: false; reason: string }): Promise<void> =>
  new Promise((resolve) => {
    process.stdout.on("error", () => resolve());
    process.stdout.write(`${JSON.stringify(message)}\n`, () => resolve());
  });

const run = async (spec: HostSpec): Promise<void> => {
  const session = new PtySession(systemClock, spec);
  const server = new HostServer(systemClock, spec, session);
  const ended = new Promise<number>((resolve) => session.exited.on(resolve));
  // A machine that shuts down asks this process to end; the agent's program gets its grace.
  process.on("SIGTERM", () => void session.stop(SHUTDOWN_GRACE_MS));
  process.on("SIGINT", () => {});
  process.on("SIGHUP", () => {});
  await server.listen();
  await writeDurably(
    join(spec.directory, "session.json"),
    JSON.stringify({
      sessionId: spec.sessionId,
      socketPath: spec.socketPath,
      hostPid: process.pid,
      pid: session.pid,
      startedAt: systemClock.now(),
    }),
  );
  await session.ready(spec.readyMs);
  if (session.exitCode === undefined) await report({ ready: true });
  else await report({ ready: false, reason: `the program ended at once with exit code ${session.exitCode}` });
  const exitCode = session.exitCode ?? (await ended);
  await writeDurably(
    join(spec.directory, "exit.json"),
    JSON.stringify({ sessionId: spec.sessionId, exitCode, at: systemClock.now() }),
  );
  await server.close();
};

try {
  await run(hostSpec.parse(JSON.parse(await readInput())));
  process.exit(0);
} catch (err) {
  await report({ ready: false, reason: err instanceof Error ? err.message : String(err) });
  process.exit(1);
}
