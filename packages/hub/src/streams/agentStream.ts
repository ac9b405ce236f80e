import type { Uuid } from "@rootstock/protocol";
import type { Owner } from "@rootstock/store";
import type { StreamHandler } from "../control/index.ts";

interface AgentOnRuntimeBroker {
  readonly runtimeBrokerId: Uuid;
  readonly slug: string;
  readonly projectId: Uuid;
}

/** Which terminal somebody wants to look at, and how large theirs is. */
export interface TerminalRequest extends AgentOnRuntimeBroker {
  readonly streamType: "pty";
  readonly cols: number;
  readonly rows: number;
  /** They only look. */
  readonly readonly: boolean;
}

/** Whose log somebody wants to follow. */
export interface LogRequest extends AgentOnRuntimeBroker {
  readonly streamType: "logs";
  /** With how many of the lines that are there it begins. */
  readonly tail: number;
  /** The id of the event after which it goes on instead, if that place is still there; older replicas do not know it. */
  readonly after?: string | undefined;
}

export type AgentStreamRequest = TerminalRequest | LogRequest;

/**
 * An open stream of an agent, wherever its runtime broker hangs. Flow control is from end to end: who gets output says `consumed`
 * once it is out of memory, and who sends input waits for `onTaken` of its handler before sending more than a window.
 * After its end every call is a no-op, and so are `write` and `resize` of a log.
 */
export interface AgentStream {
  write(data: Uint8Array): void;
  resize(cols: number, rows: number): void;
  /** So many bytes of output are out of this process. */
  consumed(bytes: number): void;
  close(reason: string): void;
}

/** A way to the replica that holds a runtime broker's socket. */
export interface OwnerLink {
  /** Whether it is worth trying. */
  reaches(owner: Owner): boolean;
  /**
   * `not_owner`: that replica says that it is not, or not any more; `unreachable`: it says nothing. The handler is told
   * nothing unless a stream was opened.
   */
  open(
    owner: Owner,
    request: AgentStreamRequest,
    handler: StreamHandler,
  ): Promise<AgentStream | "not_owner" | "unreachable">;
}

/** A stream that needs looking after: one timer does it for all. */
export interface Tended {
  /** `now`: the clock's `elapsed`. */
  tick(now: number): void;
  /** The people, agents and credentials that concern it; all where this is absent. */
  readonly standsBy?: ReadonlySet<Uuid> | undefined;
  /**
   * Looks now whether whoever is at the other end may go on; one without such an end has nothing to look at. `id`: what has
   * changed; anybody's groups and policies where it is absent.
   */
  recheck?(id?: Uuid): void;
  /** The replica stops: end it, so that its viewer goes elsewhere. */
  shutDown(): void;
}

/** The sizes that a terminal can have: a 0 from a hidden window, or one that nobody's screen has, is brought into bounds. */
export const terminalSize = (
  cols: number | undefined,
  rows: number | undefined,
): { readonly cols: number; readonly rows: number } => ({
  cols: within(cols, 80),
  rows: within(rows, 24),
});

const MAX_SIDE = 1_000;

const within = (value: number | undefined, usual: number): number =>
  value === undefined || !Number.isFinite(value) || value < 1 ? usual : Math.min(Math.floor(value), MAX_SIDE);
