import { chmod, mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type IPty, spawn } from "@lydell/node-pty";
import { type Base, type Clock, Probe } from "@rootstock/service";
import { isLoopback } from "../../agents/launchEnv.ts";
import { FollowedCommand } from "../logs/followedCommand.ts";
import { FollowedFile } from "../logs/followedFile.ts";
import { readOutputLog } from "../logs/outputLog.ts";
import { PtyInput } from "../ptyInput.ts";
import {
  type AgentPlace,
  type Attachment,
  type AttachmentEnd,
  type AttachRequest,
  type ExecResult,
  type Following,
  type FollowRequest,
  type LaunchSpec,
  type Runtime,
  RuntimeFailure,
  type SessionExit,
  SessionNotRunning,
  type SessionState,
  type TypedInput,
} from "../runtime.ts";
import { ContainerCli, type ListedContainer } from "./containerCli.ts";
import {
  AGENT_LABEL,
  agentLabelValue,
  CONTAINER_HOME,
  CONTAINER_USER,
  containerPath,
  runArgs,
  TMUX_SESSION,
} from "./runArgs.ts";
import { messageMark, NO_TERMINAL, typeCommand } from "./typeScript.ts";

/** An image may have to be fetched first. */
const RUN_TIMEOUT_MS = 600_000;
/** How long somebody who attaches waits for the agent's terminal (spec/01 3.7). */
const TERMINAL_WAIT_MS = 30_000;
const PROBLEM_TTL_MS = 30_000;
const LOG_LINES = "2000";
/** So much input that nobody takes ends a terminal: a hub without credits sends on whatever happens. */
const MAX_UNTAKEN_BYTES = 4_194_304;

export interface ContainerRuntimeOptions {
  readonly command: "docker" | "podman";
  readonly network: string | undefined;
  /** What agents reach the hub under when its own URL is an address of this machine only. */
  readonly hubUrl: string | undefined;
  readonly stopGraceMs: number;
  readonly hostEnv: Readonly<Record<string, string>>;
}

/** Writes standard input as the agent's token, as the agent's user: the tools inside must be able to read and replace it. */
const TOKEN_SCRIPT = `
umask 077
home=$(getent passwd ${CONTAINER_USER} 2>/dev/null | cut -d: -f6); directory="\${home:-${CONTAINER_HOME}}/.scion"
mkdir -p "$directory" && cat > "$directory/scion-token.tmp" && mv "$directory/scion-token.tmp" "$directory/scion-token"
`;

/**
 * Agents as containers, run by docker or podman with the conventions of the original (spec/01, spec/06 5.1): the image's
 * `sciontool init` is process 1, the harness sits in the tmux session `scion`, home and workspace are mounted. The tool
 * inside reports to the hub itself.
 */
export class ContainerRuntime implements Runtime {
  readonly name: "docker" | "podman";
  readonly reportsItself = true;
  /** Never used: containers tell nobody here when they end; their state is read with every heartbeat. */
  readonly exited = new Probe<SessionExit>();
  readonly #base: Base;
  readonly #options: ContainerRuntimeOptions;
  readonly #cli: ContainerCli;
  /** The mark of the last message that is known to be delivered, by agent. */
  readonly #marks = new Map<string, string>();
  #problem: { readonly at: number; readonly text: string | undefined } | undefined;

  constructor(base: Base, options: ContainerRuntimeOptions) {
    this.#base = base;
    this.#options = options;
    this.name = options.command;
    this.#cli = new ContainerCli(base.clock, options.command, options.hostEnv);
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {}

  async problem(): Promise<string | undefined> {
    const now = this.#base.clock.elapsed();
    if (!this.#problem || now - this.#problem.at > PROBLEM_TTL_MS) {
      const text = await this.#cli.run(["ps", "-q", "--last", "1"], { timeoutMs: 10_000 }).then(
        () => undefined,
        (err: unknown) => (err instanceof Error ? err.message : String(err)),
      );
      this.#problem = { at: now, text };
    }
    return this.#problem.text;
  }

  async launch(spec: LaunchSpec): Promise<SessionState> {
    const { place } = spec;
    if (!spec.image) throw new RuntimeFailure("no container image is configured for this agent");
    for (const { source, target } of spec.files) {
      // The directory that holds them is closed to others; inside, the agent's user has to read them.
      await chmod(source, 0o644);
      const inside = containerPath(target);
      // The tool would make missing directories as root, and nobody else could remove them.
      if (inside.startsWith(`${CONTAINER_HOME}/`)) {
        await mkdir(dirname(join(place.home, inside.slice(CONTAINER_HOME.length + 1))), { recursive: true });
      }
    }
    const hub = spec.env.SCION_HUB_ENDPOINT ?? "";
    const replacement = isLoopback(hub) ? this.#options.hubUrl : undefined;
    const network = this.#options.network ?? (isLoopback(hub) && replacement === undefined ? "host" : undefined);
    const env = { ...spec.env, ...(replacement && { SCION_HUB_ENDPOINT: replacement, SCION_HUB_URL: replacement }) };
    const { args, toolEnv } = runArgs(
      { ...spec, env },
      {
        command: this.#options.command,
        image: spec.image,
        network,
        uid: process.getuid?.() ?? 1000,
        gid: process.getgid?.() ?? 1000,
      },
    );
    try {
      await this.#cli.run(args, { env: toolEnv, timeoutMs: RUN_TIMEOUT_MS });
      const state = await this.#state(place);
      if (state?.status === "running") return state;
      const log = await this.#find(place).then((found) => found && this.#cli.try(["logs", "--tail", "50", found.id]));
      throw new RuntimeFailure(`the container ended at once: ${log?.output.trim().slice(-2_000) ?? "no log"}`);
    } catch (err) {
      // A container that could not be started may have been made all the same, and would keep its name.
      await this.removeSession(place).catch(() => {});
      throw err;
    }
  }

  async endSession(place: AgentPlace): Promise<void> {
    const container = await this.#find(place);
    if (!container || stateOf(container).status !== "running") return;
    const grace = Math.ceil(this.#options.stopGraceMs / 1000);
    const args = ["stop", "-t", String(grace), container.id];
    await this.#cli.run(args, { timeoutMs: this.#options.stopGraceMs + 30_000 });
  }

  async removeSession(place: AgentPlace): Promise<void> {
    const container = await this.#find(place);
    this.#marks.delete(place.key);
    if (!container) return;
    await this.endSession(place);
    await this.#cli.run(["rm", "-f", container.id], { timeoutMs: this.#options.stopGraceMs + 60_000 });
  }

  async sessions(places: readonly AgentPlace[]): Promise<ReadonlyMap<string, SessionState>> {
    const states = new Map<string, SessionState>();
    if (places.length === 0) return states;
    const byLabel = new Map(places.map((place) => [agentLabelValue(place), place.key]));
    for (const container of await this.#cli.list(AGENT_LABEL)) {
      const key = byLabel.get(container.labels[AGENT_LABEL] ?? "");
      if (key !== undefined) states.set(key, stateOf(container));
    }
    return states;
  }

  async write(place: AgentPlace, input: TypedInput): Promise<void> {
    const id = await this.#running(place);
    const command = typeCommand(input, this.#marks.get(place.key));
    const args = ["exec", "-i", "--user", CONTAINER_USER, id, ...command];
    const { output, exitCode } = await this.#cli.try(args, { input: input.text });
    if (exitCode === NO_TERMINAL) throw new RuntimeFailure("the agent's terminal is not ready");
    if (exitCode !== 0) {
      await this.#running(place);
      throw new RuntimeFailure(`typing into the agent failed (${exitCode}): ${output.trim().slice(-500)}`);
    }
    if (input.messageId !== undefined) this.#marks.set(place.key, messageMark(input.messageId));
  }

  async logs(place: AgentPlace, maxBytes: number): Promise<string> {
    // The tool inside keeps a log in the home; the container's own output is the screen of tmux.
    const kept = await readOutputLog(join(place.home, "agent.log"), maxBytes);
    if (kept !== "") return kept;
    const container = await this.#find(place);
    return container ? (await this.#cli.try(["logs", "--tail", LOG_LINES, container.id])).output : "";
  }

  async follow(place: AgentPlace, request: FollowRequest): Promise<Following> {
    const kept = join(place.home, "agent.log");
    const size = await stat(kept).then(
      (s) => s.size,
      () => 0,
    );
    const container = size > 0 ? undefined : await this.#find(place);
    if (!container) return FollowedFile.open(this.#base, kept, request);
    // A reader's place is not looked for in what the container prints: all of it leaves nothing out.
    const tail = request.after ? "all" : String(request.tail);
    const args = ["logs", "--follow", "--tail", tail, container.id];
    return FollowedCommand.start([this.#options.command, ...args], this.#options.hostEnv, request.onData);
  }

  async exec(place: AgentPlace, command: readonly string[], timeoutMs: number): Promise<ExecResult> {
    const id = await this.#running(place);
    return this.#cli.try(["exec", "--user", CONTAINER_USER, id, ...command], { timeoutMs });
  }

  async attach(place: AgentPlace, { size, readonly, onData }: AttachRequest): Promise<Attachment> {
    const id = await this.#running(place);
    const asUser = ["exec", "--user", CONTAINER_USER, id];
    await this.#terminalReady(asUser);
    const window = await this.#cli.try([...asUser, "tmux", "display-message", "-p", "-t", TMUX_SESSION, "#W"]);
    const name = window.output.trim();
    if (window.exitCode === 0 && /^[\w.-]{1,64}$/.test(name)) onData(Buffer.from(`\x1b]7337;tmuxwindow=${name}\x07`));
    const terminal = spawn(
      this.#options.command,
      [
        "exec",
        "-it",
        "--user",
        CONTAINER_USER,
        "-e",
        "TERM=xterm-256color",
        id,
        "tmux",
        "attach-session",
        // Keeps the keyboard out and, since tmux 3.2, the size of whoever works there.
        ...(readonly ? ["-r"] : []),
        "-t",
        TMUX_SESSION,
      ],
      { name: "xterm-256color", ...size, env: { ...this.#options.hostEnv, TERM: "xterm-256color" }, encoding: null },
    );
    return attachmentTo(this.#base.clock, terminal, onData);
  }

  async replaceToken(place: AgentPlace, token: string): Promise<boolean> {
    const id = await this.#running(place);
    await this.#cli.run(["exec", "-i", "--user", CONTAINER_USER, id, "sh", "-c", TOKEN_SCRIPT], { input: token });
    // As root: process 1 belongs to it, and the agent's own user may not signal it.
    const signalled = await this.#cli.try(["exec", "--user", "root", id, "kill", "-USR2", "1"]);
    return signalled.exitCode === 0;
  }

  async #terminalReady(asUser: readonly string[]): Promise<void> {
    const deadline = this.#base.clock.elapsed() + TERMINAL_WAIT_MS;
    while ((await this.#cli.try([...asUser, "tmux", "has-session", "-t", TMUX_SESSION])).exitCode !== 0) {
      if (this.#base.clock.elapsed() > deadline) throw new RuntimeFailure("the agent's terminal is not ready");
      await this.#base.clock.sleep(500);
    }
  }

  async #find(place: AgentPlace): Promise<ListedContainer | undefined> {
    const wanted = agentLabelValue(place);
    return (await this.#cli.list(AGENT_LABEL)).find((container) => container.labels[AGENT_LABEL] === wanted);
  }

  async #state(place: AgentPlace): Promise<SessionState | undefined> {
    const container = await this.#find(place);
    return container && stateOf(container);
  }

  async #running(place: AgentPlace): Promise<string> {
    const state = await this.#state(place);
    if (state?.status !== "running") throw new SessionNotRunning("the agent's container does not run");
    return state.sessionId;
  }
}

/** The state that a container tool's status text means. */
const stateOf = (container: ListedContainer): SessionState => {
  const { id: sessionId, status: statusText } = container;
  if (/^(up|running)/i.test(statusText)) return { status: "running", sessionId, statusText };
  const code = /exited\s*\((\d+)\)/i.exec(statusText)?.[1];
  return { status: "exited", sessionId, statusText, exitCode: code === undefined ? undefined : Number(code) };
};

/** A local terminal whose program is the container tool's interactive `exec`. */
const attachmentTo = (clock: Clock, terminal: IPty, onData: (data: Buffer) => void): Attachment => {
  const { promise: ended, resolve: end } = Promise.withResolvers<AttachmentEnd>();
  const input = new PtyInput(clock, terminal);
  let over = false;
  terminal.onData((data) => onData(Buffer.from(data)));
  terminal.onExit(() => {
    over = true;
    end({ code: 0, reason: "session ended" });
  });
  const whileOpen = (work: () => void) => {
    if (!over) work();
  };
  return {
    ended,
    write: (data, taken) =>
      whileOpen(() => {
        if (input.pendingBytes <= MAX_UNTAKEN_BYTES) input.write(data, taken);
        else {
          end({ code: 1009, reason: "input_overflow" });
          terminal.kill();
        }
      }),
    resize: ({ cols, rows }) => whileOpen(() => terminal.resize(cols, rows)),
    pause: () => whileOpen(() => terminal.pause()),
    resume: () => whileOpen(() => terminal.resume()),
    close: () => whileOpen(() => terminal.kill()),
  };
};
