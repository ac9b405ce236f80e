import { type ChildProcess, spawn } from "node:child_process";
import type { AttachmentEnd, Following } from "../runtime.ts";
import { PlainLines } from "./plainText.ts";

/** A program that prints a log as it grows. What its reader does not take waits in the program's pipe. */
export class FollowedCommand implements Following {
  readonly ended: Promise<AttachmentEnd>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, onData: (data: Buffer) => void) {
    this.#child = child;
    for (const output of [child.stdout, child.stderr]) {
      const lines = new PlainLines();
      output?.on("data", (data: Buffer) => {
        const text = lines.push(data);
        if (text !== "") onData(Buffer.from(text));
      });
    }
    this.ended = new Promise((resolve) => {
      child.once("error", (err) => resolve({ code: 500, reason: err.message }));
      child.once("close", () => resolve({ code: 0, reason: "session ended" }));
    });
  }

  static start(
    command: readonly string[],
    env: Readonly<Record<string, string>>,
    onData: (data: Buffer) => void,
  ): FollowedCommand {
    const [file = "", ...args] = command;
    return new FollowedCommand(spawn(file, args, { env: { ...env }, stdio: ["ignore", "pipe", "pipe"] }), onData);
  }

  pause(): void {
    this.#child.stdout?.pause();
    this.#child.stderr?.pause();
  }

  resume(): void {
    this.#child.stdout?.resume();
    this.#child.stderr?.resume();
  }

  close(): void {
    this.#child.kill("SIGKILL");
    // Paused, they would keep what is in the pipes, and the end would never come.
    this.resume();
  }
}
