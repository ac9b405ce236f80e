import serialize from "@xterm/addon-serialize";
import headless from "@xterm/headless";
import type { TerminalSize } from "../runtime.ts";

const SCROLLBACK_LINES = 500;
/** Output that the emulation has not worked off yet; above it the program inside has to wait. */
const MAX_BACKLOG_BYTES = 1_048_576;

/**
 * The screen of a session, kept so that whoever attaches later sees it. Repeating the last bytes of output would start in
 * the middle of an escape sequence and miss what was drawn before.
 */
export class Screen {
  readonly #terminal: InstanceType<typeof headless.Terminal>;
  readonly #serializer = new serialize.SerializeAddon();
  #backlog = 0;

  /** `answer` gets what a terminal replies to questions of the program inside (where is the cursor, what are you). */
  constructor(size: TerminalSize, answer: (text: string) => void) {
    // It would complain of every byte that it cannot read, in a file that nothing bounds.
    const options = { scrollback: SCROLLBACK_LINES, allowProposedApi: true, logLevel: "off" } as const;
    this.#terminal = new headless.Terminal({ ...size, ...options });
    this.#terminal.loadAddon(this.#serializer);
    this.#terminal.onData(answer);
  }

  /** Feeds output; `false` asks the caller to hold back until `drained` is called. */
  feed(data: Buffer, drained: () => void): boolean {
    this.#backlog += data.byteLength;
    const full = this.#backlog > MAX_BACKLOG_BYTES;
    this.#terminal.write(data, () => {
      this.#backlog -= data.byteLength;
      if (full) drained();
    });
    return !full;
  }

  resize(size: TerminalSize): void {
    this.#terminal.resize(size.cols, size.rows);
  }

  /** Whether the program inside asked to be told what is pasted. */
  get bracketedPaste(): boolean {
    return this.#terminal.modes.bracketedPasteMode;
  }

  /**
   * What paints the screen, with its history, on an empty terminal: everything fed before this call, nothing fed after it.
   */
  repaint(): Promise<string> {
    return this.#settled(() => `\x1b[0m\x1b[2J\x1b[3J\x1b[H${this.#serializer.serialize()}`);
  }

  /** The visible lines, with colours or as plain text. */
  capture(escapes: boolean): Promise<string> {
    return this.#settled(() => {
      if (escapes) return this.#serializer.serialize({ scrollback: 0, excludeModes: true });
      const buffer = this.#terminal.buffer.active;
      const lines = Array.from(
        { length: this.#terminal.rows },
        (_, row) => buffer.getLine(buffer.baseY + row)?.translateToString(true) ?? "",
      );
      return lines.join("\n").trimEnd();
    });
  }

  /** Reads the screen within the emulation's own turn: a moment later it may have worked off newer output. */
  #settled(read: () => string): Promise<string> {
    return new Promise((resolve) => this.#terminal.write("", () => resolve(read())));
  }
}
