import { type ChildProcessByStdio, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { type Base, Probe } from "@rootstock/service";
import { readJson, writeTokenFile } from "../../files.ts";
import { FollowedFile } from "../logs/followedFile.ts";
import { readOutputLog } from "../logs/outputLog.ts";
import {
  type AgentPlace,
  type Attachment,
  type AttachmentEnd,
  type AttachRequest,
  type ExecResult,
  exitedText,
  type Following,
  type FollowRequest,
  type LaunchSpec,
  type Runtime,
  RuntimeFailure,
  type SessionExit,
  SessionNotRunning,
  type SessionState,
  type TerminalSize,
  type TypedInput,
  upText,
} from "../runtime.ts";
import { DetachKeys } from "./detachKeys.ts";
import { HostClient } from "./hostClient.ts";
import { exitFile, type HostSpec, hostReady, MAX_PENDING_BYTES, sessionFile } from "./hostProtocol.ts";
import { LineReader, parseLine } from "./lines.ts";
import { socketPathFor } from "./socketPath.ts";
import { Unacknowledged } from "./unacknowledged.ts";

const HOST_ENTRY = fileURLToPath(new URL("./sessionHost.ts", import.meta.url));
const MAX_LOG_BYTES = 8_388_608;
/** A program that prints nothing is taken as ready after this. */
const READY_MS = 3_000;
/** How long a host may take to say that it is ready, beyond that. */
const LAUNCH_MS = 20_000;
/** How long a host whose session failed may take to end. */
const HOST_END_MS = 5_000;
const DEFAULT_SIZE: TerminalSize = { cols: 120, rows: 40 };

/**
 * Agents as programs in pseudo-terminals on this machine. Each has a host process of its own (`sessionHost.ts`), detached:
 * the runtime broker may be stopped, killed or upgraded, and finds the sessions again through their sockets.
 */
export class ProcessRuntime implements Runtime {
  readonly name = "process";
  readonly reportsItself = false;
  readonly exited = new Probe<SessionExit>();
  readonly #base: Base;
  readonly #stopGraceMs: number;
  /** One connection per running session, to hear of its end and to give it orders. */
  readonly #clients = new Map<string, HostClient>();
  readonly #opening = new Map<string, Promise<HostClient | undefined>>();

  constructor(base: Base, options: { readonly stopGraceMs: number }) {
    this.#base = base;
    this.#stopGraceMs = options.stopGraceMs;
  }

  async start(): Promise<void> {}

  /** Lets go of the sessions; they run on. */
  async stop(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    for (const client of clients) client.close();
    await Promise.all(clients.map((client) => client.closed));
  }

  async problem(): Promise<string | undefined> {
    return undefined;
  }

  async launch(spec: LaunchSpec): Promise<SessionState> {
    const { place } = spec;
    if (spec.files.length > 0) {
      throw new RuntimeFailure(`the process runtime cannot show a file at ${spec.files[0]?.target}`);
    }
    if (await this.#client(place)) throw new RuntimeFailure("the agent has a session already");
    await Promise.all(["exit.json", "session.json"].map((name) => rm(join(place.directory, name), { force: true })));
    await this.#spawnHost(place, {
      sessionId: this.#base.random.uuid(),
      socketPath: await socketPathFor(place.directory),
      directory: place.directory,
      command: [...spec.command],
      cwd: place.workspace,
      env: { ...spec.env },
      maxLogBytes: MAX_LOG_BYTES,
      readyMs: READY_MS,
      ...DEFAULT_SIZE,
    });
    const state = await this.#state(place);
    if (state?.status !== "running") throw new RuntimeFailure("the session ended at once");
    return state;
  }

  async endSession(place: AgentPlace): Promise<void> {
    await this.#ifRunning(place, (client) => client.request({ op: "stop", graceMs: this.#stopGraceMs }));
  }

  removeSession(place: AgentPlace): Promise<void> {
    return this.endSession(place);
  }

  async sessions(places: readonly AgentPlace[]): Promise<ReadonlyMap<string, SessionState>> {
    const states = new Map<string, SessionState>();
    for (const place of places) {
      const state = await this.#state(place);
      if (state) states.set(place.key, state);
    }
    return states;
  }

  async write(place: AgentPlace, input: TypedInput): Promise<void> {
    const client = await this.#running(place);
    await client.request({
      op: "type",
      text: input.text,
      raw: input.raw,
      ...(input.interruptKey && { interruptKey: input.interruptKey }),
      ...(input.messageId !== undefined && { messageId: input.messageId }),
    });
  }

  logs(place: AgentPlace, maxBytes: number): Promise<string> {
    return readOutputLog(join(place.directory, "agent.log"), maxBytes);
  }

  async follow(place: AgentPlace, request: FollowRequest): Promise<Following> {
    return FollowedFile.open(this.#base, join(place.directory, "agent.log"), request);
  }

  async exec(place: AgentPlace, command: readonly string[], timeoutMs: number): Promise<ExecResult> {
    const client = await this.#running(place);
    const reply = isScreenCapture(command)
      ? await client.request({ op: "capture", escapes: command.some((arg) => /^-[a-zA-Z]*e/.test(arg)) })
      : await client.request({ op: "exec", command: [...command], timeoutMs });
    return { output: reply.output ?? "", exitCode: reply.exitCode ?? 0 };
  }

  async attach(place: AgentPlace, { size, readonly, onData }: AttachRequest): Promise<Attachment> {
    const session = await this.#sessionOf(place);
    if (!session) throw new SessionNotRunning("the agent has no session");
    const client = await HostClient.open(session.socketPath);
    const { promise: ended, resolve: end } = Promise.withResolvers<AttachmentEnd>();
    client.output.on(onData);
    client.exited.on(() => end({ code: 0, reason: "session ended" }));
    // Its host said nothing of an end: it was killed, and the program with it.
    void client.closed.then(() => end({ code: 4410, reason: "agent_stopped" }));
    const attach = { op: "attach", ...size, ...(readonly && { readonly }) } as const;
    const { acknowledgesInput } = await client.request(attach).catch((err: unknown) => {
      client.close();
      throw err;
    });
    const untaken = new Unacknowledged();
    client.taken.on((bytes) => untaken.acknowledge(bytes));
    const keys = new DetachKeys();
    const leave = (reason: AttachmentEnd) => {
      end(reason);
      client.close();
    };
    return {
      ended,
      write(data, taken) {
        const { typed, leaves } = keys.feed(data);
        if (untaken.bytes > MAX_PENDING_BYTES) leave({ code: 1009, reason: "input_overflow" });
        else if (readonly || typed.byteLength === 0) taken?.();
        else {
          untaken.add(typed.byteLength, taken);
          const sent = acknowledgesInput ? undefined : () => untaken.acknowledge(typed.byteLength);
          client.tell({ op: "input", data: typed.toString("base64") }, sent);
        }
        if (leaves) leave({ code: 0, reason: "session ended" });
      },
      resize: (to) => {
        if (!readonly) client.tell({ op: "resize", ...to });
      },
      pause: () => client.pause(),
      resume: () => client.resume(),
      close: () => client.close(),
    };
  }

  async replaceToken(place: AgentPlace, token: string): Promise<boolean> {
    await writeTokenFile(place.home, token);
    return true;
  }

  async #spawnHost(place: AgentPlace, spec: HostSpec): Promise<void> {
    const log = openSync(join(place.directory, "host.log"), "a", 0o600);
    // The host itself needs nothing of this process's environment, which holds other secrets than the agent's.
    const env = { PATH: spec.env.PATH ?? "" };
    const host = startHost(place.directory, env, log);
    closeSync(log);
    host.unref();
    const answer = new Promise<string>((resolve, reject) => {
      const lines = new LineReader(65_536, resolve);
      host.stdout.on("data", (bytes: Buffer) => lines.push(bytes));
      host.once("error", reject);
      host.once("exit", () => reject(new Error("the session host ended")));
      host.stdin.on("error", () => {});
      host.stdin.end(JSON.stringify(spec));
    });
    const ended = new Promise<void>((resolve) => host.once("exit", () => resolve()));
    const waited = new AbortController();
    try {
      const late = this.#base.clock.sleep(LAUNCH_MS, waited.signal).then(() => {
        throw new Error("the session host does not answer");
      });
      const line = await Promise.race([answer, late]);
      const ready = hostReady.parse(parseLine(line));
      if (!ready.ready) throw new RuntimeFailure(ready.reason);
    } catch (err) {
      if (host.pid !== undefined && !(err instanceof RuntimeFailure)) host.kill("SIGTERM");
      // Until it is gone it answers on its socket, and whoever asks would take the failed session for a running one.
      await Promise.race([ended, this.#base.clock.sleep(HOST_END_MS, waited.signal)]);
      throw err instanceof RuntimeFailure ? err : new RuntimeFailure(`no session: ${String(err)}`, { cause: err });
    } finally {
      waited.abort();
      host.stdout.destroy();
    }
  }

  /** What is known of the agent's latest session. */
  async #state(place: AgentPlace): Promise<SessionState | undefined> {
    const session = await this.#sessionOf(place);
    if (!session) return undefined;
    const now = this.#base.clock.now();
    if (await this.#client(place)) {
      const statusText = upText(now - session.startedAt);
      return { status: "running", sessionId: session.sessionId, statusText, since: session.startedAt };
    }
    const exit = exitFile.safeParse(await readJson(join(place.directory, "exit.json")));
    const seen = exit.success && exit.data.sessionId === session.sessionId ? exit.data : undefined;
    const since = seen?.at ?? session.startedAt;
    const statusText = exitedText(seen?.exitCode, now - since);
    return { status: "exited", sessionId: session.sessionId, statusText, exitCode: seen?.exitCode, since };
  }

  async #sessionOf(place: AgentPlace) {
    const parsed = sessionFile.safeParse(await readJson(join(place.directory, "session.json")));
    return parsed.success ? parsed.data : undefined;
  }

  /** The connection to a session that runs, undefined when none does. */
  async #client(place: AgentPlace): Promise<HostClient | undefined> {
    const known = this.#clients.get(place.key);
    if (known) return known.exitCode === undefined ? known : undefined;
    const opening = this.#opening.get(place.key) ?? this.#open(place).finally(() => this.#opening.delete(place.key));
    this.#opening.set(place.key, opening);
    return opening;
  }

  async #open(place: AgentPlace): Promise<HostClient | undefined> {
    const session = await this.#sessionOf(place);
    if (!session) return undefined;
    const client = await HostClient.open(session.socketPath).catch(() => undefined);
    if (!client) return undefined;
    this.#clients.set(place.key, client);
    void client.closed.then(() => {
      // A connection that this process closed says nothing about the session.
      if (this.#clients.get(place.key) !== client) return;
      this.#clients.delete(place.key);
      this.exited.emit({ key: place.key, exitCode: client.exitCode });
    });
    return client;
  }

  async #running(place: AgentPlace): Promise<HostClient> {
    const client = await this.#client(place);
    if (!client) throw new SessionNotRunning("the agent has no session");
    return client;
  }

  async #ifRunning(place: AgentPlace, work: (client: HostClient) => Promise<unknown>): Promise<void> {
    const client = await this.#client(place);
    if (!client) return;
    await work(client).catch((err: unknown) => {
      if (!(err instanceof SessionNotRunning)) throw err;
    });
    await client.closed;
  }
}

const startHost = (cwd: string, env: NodeJS.ProcessEnv, log: number): ChildProcessByStdio<Writable, Readable, null> =>
  spawn(process.execPath, ["--disable-warning=ExperimentalWarning", HOST_ENTRY], {
    cwd,
    env,
    detached: true,
    stdio: ["pipe", "pipe", log],
  }) as ChildProcessByStdio<Writable, Readable, null>;

/** What `scion look` asks for: the screen of the terminal that holds the agent. Here no tmux holds it. */
const isScreenCapture = (command: readonly string[]): boolean => command[0] === "tmux" && command[1] === "capture-pane";
