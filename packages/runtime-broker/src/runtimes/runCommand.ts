import { spawn } from "node:child_process";
import type { Clock } from "@rootstock/service";
import type { ExecResult } from "./runtime.ts";

/** More output than this is cut off, with a note. */
const MAX_OUTPUT_BYTES = 524_288;

export interface CommandParams {
  readonly command: readonly string[];
  readonly cwd?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly input?: string;
}

/**
 * Runs a program, never through a shell, and gathers what it prints on both outputs.
 * @throws Error when it cannot be started, or takes longer than `timeoutMs` (it and its children are killed then)
 */
export const runCommand = (clock: Clock, p: CommandParams): Promise<ExecResult> =>
  new Promise((resolve, reject) => {
    const [file = "", ...args] = p.command;
    const child = spawn(file, args, {
      ...(p.cwd !== undefined && { cwd: p.cwd }),
      env: { ...p.env },
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    let timedOut = false;
    const collect = (chunk: Buffer) => {
      bytes += chunk.byteLength;
      if (bytes - chunk.byteLength < MAX_OUTPUT_BYTES) chunks.push(chunk);
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    // A program that does not read its input closes the pipe: that is its right.
    child.stdin.on("error", () => {});
    child.stdin.end(p.input ?? "");
    const timer = clock.after(p.timeoutMs, () => {
      timedOut = true;
      // Its own children may hold the outputs open for ever.
      child.stdout.destroy();
      child.stderr.destroy();
      if (child.pid !== undefined) killGroup(child.pid);
    });
    child.once("error", (err) => {
      timer.cancel();
      reject(err);
    });
    child.once("close", (code, signal) => {
      timer.cancel();
      if (timedOut) {
        reject(new Error(`the command took longer than ${p.timeoutMs} ms`));
        return;
      }
      const text = Buffer.concat(chunks).subarray(0, MAX_OUTPUT_BYTES).toString("utf8");
      const cut = bytes > MAX_OUTPUT_BYTES ? `\n[output cut at ${MAX_OUTPUT_BYTES} bytes]` : "";
      resolve({ output: text + cut, exitCode: code ?? (signal ? 137 : 1) });
    });
  });

const killGroup = (pid: number): void => {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Gone already.
  }
};
