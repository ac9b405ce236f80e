import { join } from "node:path";
import { type IPty, spawn } from "@lydell/node-pty";
import { type Clock, Probe } from "@rootstock/service";
import { IdLog } from "../../messages/idLog.ts";
import { OutputLog } from "../logs/outputLog.ts";
import { PtyInput } from "../ptyInput.ts";
import { InputNotTaken, type TerminalSize, type TypedInput } from "../runtime.ts";
import type { HostSpec } from "./hostProtocol.ts";
import { Screen } from "./terminal.ts";

/** Between pasted text and Enter where the program did not ask for bracketed paste: it may take both for one paste. */
const ENTER_DELAY_MS = 50;
const INTERRUPT_DELAY_MS = 100;
/** A program that is still there so long after its first output counts as started. */
const SURVIVED_MS = 150;
/** A program that takes nothing of what was typed for so long is not given more to type. */
const TAKES_INPUT_MS = 5_000;
/** Answers to questions of a program that does not read them are left out above this. */
const MAX_UNREAD_ANSWERS_BYTES = 65_536;
const KEYS = { "C-c": "\x03", Escape: "\x1b" } as const;

/** Ids of typed messages that are kept, across this agent's sessions. */
export const TYPED_IDS = { maxIds: 5_000, maxAgeMs: 30 * 24 * 3_600_000, durable: false } as const;

/** Control characters are keystrokes, which only a raw message may send: a paste could otherwise end itself and go on typing. */
const withoutKeys = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  text.replace(/\r\n?/g, "\n").replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");

/**
 * One pseudo-terminal with the agent's program in it, inside the host process. It lives as long as that process does,
 * whatever happens to the runtime broker. Inputs are typed one after another, and a message id only once: this memory,
 * not the runtime broker's, decides about a message that was being delivered when the runtime broker was killed.
 */
export class PtySession {
  readonly output = new Probe<Buffer>();
  readonly exited = new Probe<number>();
  readonly pid: number;
  readonly #clock: Clock;
  readonly #pty: IPty;
  readonly #input: PtyInput;
  readonly #screen: Screen;
  readonly #log: OutputLog;
  readonly #typed: IdLog;
  #typing: Promise<void> = Promise.resolve();
  #viewers = 0;
  #stopRequested = false;
  #printed = false;
  #exitCode: number | undefined;

  constructor(clock: Clock, spec: HostSpec) {
    this.#clock = clock;
    this.#log = new OutputLog(join(spec.directory, "agent.log"), spec.maxLogBytes);
    this.#typed = new IdLog(clock, { file: join(spec.directory, "typed.ids"), ...TYPED_IDS });
    this.#screen = new Screen(spec, (text) => {
      if (this.#viewers === 0 && this.#input.pendingBytes < MAX_UNREAD_ANSWERS_BYTES) this.#input.write(text);
    });
    const [file = "", ...args] = spec.command;
    this.#pty = spawn(file, args, {
      name: "xterm-256color",
      cols: spec.cols,
      rows: spec.rows,
      cwd: spec.cwd,
      env: { ...spec.env },
      encoding: null,
    });
    this.pid = this.#pty.pid;
    this.#input = new PtyInput(clock, this.#pty);
    this.#pty.onData((data) => this.#onOutput(Buffer.from(data)));
    this.#pty.onExit(({ exitCode, signal }) => {
      // A program that was told to stop did nothing wrong, whatever way it went.
      this.#exitCode = this.#stopRequested ? 0 : signal ? 128 + signal : exitCode;
      this.#log.close();
      this.exited.emit(this.#exitCode);
    });
  }

  /** Undefined while the program runs. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /**
   * Resolves once the program has printed something and gone on for a moment, or has ended, or after `ms`. A broken one
   * prints its complaint and ends.
   */
  async ready(ms: number): Promise<void> {
    if (!this.#printed) await this.#until(ms, this.output);
    await this.#until(SURVIVED_MS);
  }

  /** Resolves when the program has ended, or `fact` has come, or after `ms`. */
  async #until(ms: number, fact?: Probe<Buffer>): Promise<void> {
    if (this.#exitCode !== undefined) return;
    const waited = new AbortController();
    const stop = () => waited.abort();
    const off = [this.exited.on(stop), ...(fact ? [fact.on(stop)] : [])];
    await this.#clock.sleep(ms, waited.signal);
    for (const end of off) end();
  }

  /**
   * Types `input`, after what came before it. An id that was typed before is left out.
   * @throws InputNotTaken when the program takes nothing of what was typed before; then nothing was typed
   */
  type(input: TypedInput): Promise<void> {
    const done = this.#typing.then(() => this.#type(input));
    this.#typing = done.catch(() => {});
    return done;
  }

  /** Bytes of a viewer's keyboard; `taken` is called once the program's terminal has them. */
  input(data: Buffer, taken: () => void): void {
    if (this.#exitCode === undefined) this.#input.write(data, taken);
  }

  resize(size: TerminalSize): void {
    if (this.#exitCode !== undefined) return;
    this.#pty.resize(size.cols, size.rows);
    this.#screen.resize(size);
  }

  /** Counts a viewer whose own terminal answers the program's questions; returns how to take leave. */
  addViewer(): () => void {
    this.#viewers += 1;
    return () => {
      this.#viewers -= 1;
    };
  }

  repaint(): Promise<string> {
    return this.#screen.repaint();
  }

  capture(escapes: boolean): Promise<string> {
    return this.#screen.capture(escapes);
  }

  /** Asks the program to end, and kills it after `graceMs`. Resolves when it has ended. */
  async stop(graceMs: number): Promise<void> {
    if (this.#exitCode !== undefined) return;
    this.#stopRequested = true;
    const ended = this.exited.next();
    this.#signal("SIGHUP");
    this.#signal("SIGTERM");
    const timer = this.#clock.after(graceMs, () => this.#signal("SIGKILL"));
    await ended;
    timer.cancel();
  }

  async #type(input: TypedInput): Promise<void> {
    if (this.#exitCode !== undefined) throw new Error("the session has ended");
    if (input.messageId !== undefined && (await this.#typed.has(input.messageId))) return;
    if (!(await this.#input.empty(TAKES_INPUT_MS))) throw new InputNotTaken("the program does not read its input");
    if (input.interruptKey) {
      this.#input.write(KEYS[input.interruptKey]);
      await this.#clock.sleep(INTERRUPT_DELAY_MS);
    }
    if (input.raw) this.#input.write(input.text);
    else await this.#paste(withoutKeys(input.text));
    // After the typing: a host that dies in between takes its program with it, so the repetition meets a new session.
    if (input.messageId !== undefined) await this.#typed.add(input.messageId);
  }

  async #paste(text: string): Promise<void> {
    if (text !== "") {
      const keys = text.replaceAll("\n", "\r");
      if (this.#screen.bracketedPaste) this.#input.write(`\x1b[200~${keys}\x1b[201~`);
      else {
        this.#input.write(keys);
        await this.#clock.sleep(ENTER_DELAY_MS);
      }
    }
    this.#input.write("\r");
  }

  #onOutput(data: Buffer): void {
    this.#printed = true;
    this.#log.append(data);
    if (!this.#screen.feed(data, () => this.#pty.resume())) this.#pty.pause();
    this.output.emit(data);
  }

  #signal(signal: NodeJS.Signals): void {
    try {
      // The terminal's program leads its own process group: everything it started goes with it.
      process.kill(-this.pid, signal);
    } catch {
      // Gone already.
    }
  }
}
