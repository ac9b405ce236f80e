import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { closeSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { Backoff, type Base, type Service, type Timer } from "@rootstock/service";
import { CliError } from "../exitCodes.ts";
import type { Ledger } from "./ledger.ts";
import { identify } from "./processes.ts";

export interface ProcessSpec {
  readonly name: string;
  /** Asked before every start, the restarts included. */
  readonly command: () => Promise<{
    readonly file: string;
    readonly args: readonly string[];
    readonly options?: Pick<SpawnOptions, "env" | "uid" | "gid" | "cwd">;
  }>;
  /** Where standard output and error go. */
  readonly logFile: string;
  /** A channel to the process: it can say when it serves, and it notices when this process is gone. */
  readonly channel: boolean;
  /** Resolves when the process serves. Aborted when it ends first. */
  readonly ready: (child: ChildProcess, signal: AbortSignal) => Promise<void>;
  readonly readyTimeoutMs: number;
  /** The signal that asks for a clean end, and how long that may take until the process is killed. */
  readonly stopSignal: NodeJS.Signals;
  readonly stopGraceMs: number;
}

/** What the people who watch want to know. */
export type ProcessNews =
  | { readonly kind: "ready"; readonly name: string; readonly pid: number }
  | { readonly kind: "died"; readonly name: string; readonly how: string; readonly restartMs: number };

export interface ProcessDeps {
  readonly base: Base;
  readonly ledger: Ledger;
  readonly onNews: (news: ProcessNews) => void;
}

/** A log that has grown past this is set aside at the next start, one old one is kept. */
const MAX_LOG_BYTES = 20_000_000;
const TAIL_BYTES = 2_000;

/**
 * A child process that is started again when it dies, with growing pauses. It leads a session of its own: Ctrl-C at
 * the terminal reaches only the parent, which then ends its children in the right order.
 */
export class SupervisedProcess implements Service {
  readonly #spec: ProcessSpec;
  readonly #deps: ProcessDeps;
  readonly #backoff: Backoff;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #retry: Timer | undefined;
  #stopping = true;

  constructor(spec: ProcessSpec, deps: ProcessDeps) {
    this.#spec = spec;
    this.#deps = deps;
    this.#backoff = new Backoff({ firstMs: 200, maxMs: 10_000 }, deps.base.random);
  }

  get name(): string {
    return this.#spec.name;
  }

  /** The living process's id. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves when the process serves. The first start is not repeated: what is wrong now will be wrong in a second. */
  async start(): Promise<void> {
    if (!this.#stopping) return;
    this.#stopping = false;
    try {
      await this.#run();
    } catch (cause) {
      this.#stopping = true;
      await this.#end();
      throw new CliError(`${this.name} did not start: ${reasonOf(cause)}${this.#logTail()}`, { cause });
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#retry?.cancel();
    await this.#end();
  }

  /** Ends the process at once, without a chance to clean up. */
  kill(): void {
    this.#stopping = true;
    this.#retry?.cancel();
    this.#child?.kill("SIGKILL");
  }

  /** One life of the process up to the moment it serves; its end leads to the next life. */
  async #run(): Promise<void> {
    const { name, command, channel } = this.#spec;
    const { file, args, options } = await command();
    if (this.#stopping) throw new Error("stopped while starting");
    const out = openLog(this.#spec.logFile);
    const stdio: SpawnOptions["stdio"] = ["ignore", out, out, ...(channel ? (["ipc"] as const) : [])];
    const child = spawn(file, [...args], { ...options, detached: true, stdio });
    closeSync(out);
    this.#child = child;
    const life = new AbortController();
    let served = false;
    this.#ended = new Promise((resolve) => {
      const end = (how: string) => {
        if (life.signal.aborted) return;
        this.#child = undefined;
        this.#deps.ledger.forget(name);
        life.abort(new Error(how));
        resolve();
        if (served && !this.#stopping) this.#restart(how);
      };
      child.once("error", (err) => end(err.message));
      child.once("exit", (code, signal) => end(signal ? `ended by ${signal}` : `exit code ${code}`));
    });
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (identity) this.#deps.ledger.note(name, identity);
    await this.#untilReady(child, life.signal);
    served = true;
    this.#backoff.reset();
    this.#deps.onNews({ kind: "ready", name, pid: child.pid ?? 0 });
  }

  async #untilReady(child: ChildProcess, life: AbortSignal): Promise<void> {
    const { ready, readyTimeoutMs } = this.#spec;
    const waiting = new AbortController();
    const late = this.#deps.base.clock.sleep(readyTimeoutMs, AbortSignal.any([life, waiting.signal])).then(() => {
      if (!life.aborted && !waiting.signal.aborted) throw new Error(`not ready after ${readyTimeoutMs} ms`);
    });
    try {
      await Promise.race([ready(child, life), aborted(life), late.then(() => aborted(life))]);
      life.throwIfAborted();
    } finally {
      waiting.abort();
    }
  }

  #restart(how: string): void {
    const { base, onNews } = this.#deps;
    const restartMs = Math.round(this.#backoff.next());
    onNews({ kind: "died", name: this.name, how, restartMs });
    base.log.warn({ process: this.name, how, restartMs }, "process died");
    this.#retry = base.clock.after(restartMs, () => {
      this.#run().catch((err: unknown) => {
        if (this.#stopping) return;
        // It may have come up without serving: only one life at a time.
        this.#child?.kill("SIGKILL");
        this.#ended.then(() => !this.#stopping && this.#restart(reasonOf(err)));
      });
    });
  }

  async #end(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    const { stopSignal, stopGraceMs } = this.#spec;
    child.kill(stopSignal);
    const killer = this.#deps.base.clock.after(stopGraceMs, () => {
      this.#deps.base.log.warn({ process: this.name, stopGraceMs }, "process did not end in time, killing it");
      child.kill("SIGKILL");
    });
    await this.#ended;
    killer.cancel();
  }

  #logTail(): string {
    const tail = readTail(this.#spec.logFile);
    return tail ? `\nThe end of ${this.#spec.logFile}:\n${tail}` : ` (see ${this.#spec.logFile})`;
  }
}

const reasonOf = (err: unknown): string => (err instanceof Error ? err.message : String(err));

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const fail = () => reject(signal.reason);
    if (signal.aborted) fail();
    else signal.addEventListener("abort", fail, { once: true });
  });

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

const openLog = (path: string): number => {
  if (sizeOf(path) > MAX_LOG_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, "a", 0o600);
};

const readTail = (path: string): string => {
  const size = sizeOf(path);
  if (size === 0) return "";
  const fd = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const read = readSync(fd, buffer, 0, buffer.length, Math.max(0, size - TAIL_BYTES));
    return buffer.subarray(0, read).toString("utf8").trim();
  } finally {
    closeSync(fd);
  }
};
