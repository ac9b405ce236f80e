import type { Probe, Service } from "@rootstock/service";

/** Where one agent's files are. The key is a file name that no other agent of this runtime broker has. */
export interface AgentPlace {
  readonly key: string;
  readonly slug: string;
  readonly projectId: string;
  /** Everything of this agent: record, log, secrets, sockets. */
  readonly directory: string;
  readonly home: string;
  readonly workspace: string;
}

/** Everything that one start of an agent needs. */
export interface LaunchSpec {
  readonly place: AgentPlace;
  /** Program and arguments of the harness. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly image: string | undefined;
  /** Host files shown inside the agent, read-only; targets are absolute or begin with `~/`. */
  readonly files: readonly { readonly source: string; readonly target: string }[];
  /** Shown by `docker ps`, and how tools of the original find an agent. */
  readonly labels: Readonly<Record<string, string>>;
  /** Part of the container's name. */
  readonly projectName: string;
}

/** What a runtime knows of an agent. `since`: milliseconds since the epoch of the start, or of the end. */
export type SessionState =
  | { readonly status: "running"; readonly sessionId: string; readonly statusText: string; readonly since?: number }
  | {
      readonly status: "exited";
      readonly sessionId: string;
      readonly statusText: string;
      /** Undefined when nobody saw it end. */
      readonly exitCode: number | undefined;
      readonly since?: number;
    };

export interface SessionExit {
  readonly key: string;
  /** Undefined when nobody saw the agent end. */
  readonly exitCode: number | undefined;
}

/** Something to type into an agent. */
export interface TypedInput {
  readonly text: string;
  /** Keystrokes as they are, without Enter; otherwise the text is pasted and followed by Enter. */
  readonly raw: boolean;
  /** Typed before the text. */
  readonly interruptKey: "C-c" | "Escape" | undefined;
  /** An input whose id this session has had is not typed again. */
  readonly messageId: string | undefined;
}

export interface ExecResult {
  readonly output: string;
  readonly exitCode: number;
}

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** How somebody attaches to an agent's terminal. */
export interface AttachRequest {
  readonly size: TerminalSize;
  /** A viewer who only looks: the terminal keeps its size. */
  readonly readonly: boolean;
  readonly onData: (data: Buffer) => void;
}

/** How somebody follows an agent's log. */
export interface FollowRequest {
  /** With how many of the lines that are there it begins. */
  readonly tail: number;
  /** The reader's `LogPlace` as bytes: it goes on after that where it is found, else with all that is kept. */
  readonly after?: Buffer | undefined;
  readonly onData: (data: Buffer) => void;
}

/** One reader of an agent's output as it comes. */
export interface Following {
  /** Resolves with the reason once there is nothing more to come, or the reader was too slow. */
  readonly ended: Promise<AttachmentEnd>;
  /** Stops and resumes output: what a slow reader uses instead of letting it pile up here. */
  pause(): void;
  resume(): void;
  /** Leaves; the agent goes on. */
  close(): void;
}

/** One viewer of an agent's terminal. */
export interface Attachment extends Following {
  /** Types; `taken` is called once the program's terminal has the bytes, as far as that can be known. */
  write(data: Buffer, taken?: () => void): void;
  resize(size: TerminalSize): void;
}

export interface AttachmentEnd {
  readonly code: number;
  readonly reason: string;
}

/** The agent has no session now: never started, or ended. */
export class SessionNotRunning extends Error {
  override readonly name = "SessionNotRunning";
}

/** The runtime could not do what was asked; the message says why and may be shown. */
export class RuntimeFailure extends Error {
  override readonly name: string = "RuntimeFailure";
}

/** The agent's program takes nothing of what is typed; nothing of this input was typed. It may be tried again later. */
export class InputNotTaken extends RuntimeFailure {
  override readonly name = "InputNotTaken";
}

/**
 * Runs agents' sessions. Every call names an agent by its place; a call for one without a session throws
 * `SessionNotRunning`, except where noted.
 */
export interface Runtime extends Service {
  /** As it goes over the wire: `process`, `docker`, `podman`. */
  readonly name: string;
  /** Whether a tool inside the agent reports to the hub; where none does, the runtime broker reports. */
  readonly reportsItself: boolean;
  /** A session has ended, whoever ended it. */
  readonly exited: Probe<SessionExit>;
  /** Why it cannot run agents now; undefined when it can. */
  problem(): Promise<string | undefined>;
  /**
   * Starts a session and returns once it takes input.
   * @throws RuntimeFailure when the program could not be started or ended at once; nothing runs then
   */
  launch(spec: LaunchSpec): Promise<SessionState>;
  /** Ends the session, after a grace by force. None there is success. */
  endSession(place: AgentPlace): Promise<void>;
  /** Ends the session and removes what the runtime keeps of it. None there is success. */
  removeSession(place: AgentPlace): Promise<void>;
  /** The latest session of each of these agents, also when it has ended, by agent key. */
  sessions(places: readonly AgentPlace[]): Promise<ReadonlyMap<string, SessionState>>;
  /** @throws InputNotTaken when the agent's program does not read */
  write(place: AgentPlace, input: TypedInput): Promise<void>;
  /** At most the last `maxBytes` of the agent's log, of this and former sessions. Empty when there is none. */
  logs(place: AgentPlace, maxBytes: number): Promise<string>;
  /** The log as text, from its end on as it grows. Needs no session: an agent that starts again goes on in its log. */
  follow(place: AgentPlace, request: FollowRequest): Promise<Following>;
  /** @throws RuntimeFailure when the command takes longer than `timeoutMs` */
  exec(place: AgentPlace, command: readonly string[], timeoutMs: number): Promise<ExecResult>;
  /** Output begins with what is needed to paint the screen. */
  attach(place: AgentPlace, request: AttachRequest): Promise<Attachment>;
  /** Replaces the agent's token. False when the tools inside will find out by themselves, later. */
  replaceToken(place: AgentPlace, token: string): Promise<boolean>;
}

const UNITS = [
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
] as const;

const duration = (ms: number): string => {
  for (const [name, seconds] of UNITS) {
    const count = Math.floor(ms / 1000 / seconds);
    if (count > 0) return `${count} ${name}${count > 1 ? "s" : ""}`;
  }
  return "Less than a second";
};

/** The status text of a session that has run for `ms` milliseconds, as container tools write it and the hub reads it (spec/01 5.2). */
export const upText = (ms: number): string => `Up ${duration(ms)}`;

/** The status text of a session that ended `ms` milliseconds ago. An unseen end counts as a failure. */
export const exitedText = (exitCode: number | undefined, ms: number): string =>
  `Exited (${exitCode ?? 255}) ${duration(ms)} ago`;
