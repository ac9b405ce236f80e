import type { TerminalSize } from "../runtimes/runtime.ts";

/** The types of streams that are offered: an agent's terminal, and its log as it grows. */
export const STREAM_TYPES = ["pty", "logs"] as const;

/** One open stream of a channel, as its frames see it. */
export interface OpenStream {
  input(data: Buffer): void;
  resize(size: TerminalSize): void;
  /** The hub has passed on so many bytes of output. */
  credit(bytes: number): void;
  /** The viewer has left: nothing more is said. */
  leave(): void;
}
