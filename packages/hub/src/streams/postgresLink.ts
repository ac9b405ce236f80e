import type { HubError, Uuid } from "@rootstock/protocol";
import type { Base, Service } from "@rootstock/service";
import type { Owner, StreamFrameRow } from "@rootstock/store";
import { z } from "zod";
import type { Registry, StreamHandler } from "../control/index.ts";
import type { AgentStream, AgentStreamRequest, OwnerLink } from "./agentStream.ts";
import { Conversation } from "./conversation.ts";
import type { Mailbox } from "./mailbox.ts";
import { openHere } from "./openHere.ts";
import { type IsOwner, ownerMoved } from "./ownerMoved.ts";
import { fromQuery, toQuery } from "./peerFrames.ts";
import { EntryEnd, OwnerEnd, type StreamEndpoint } from "./postgresEnds.ts";
import { type RelayedRequest, type RelayedResponse, relayedRequest } from "./relayedCall.ts";
import type { Tending } from "./tending.ts";

/** What a peer answered to a call, as it would have over HTTP. */
export interface PeerAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** A call that was sent and of which nothing was heard. */
export const NO_ANSWER: PeerAnswer = { status: 504, body: undefined };
/** A call that was not carried out: the replica does not hold the socket any more. */
const NOT_OWNER: PeerAnswer = { status: 409, body: undefined };

/** The answer that becomes of a call served here. Never rejects. */
export const answering = async (
  call: Promise<RelayedResponse>,
  toError: (err: unknown) => HubError,
): Promise<PeerAnswer> => {
  try {
    return { status: 200, body: await call };
  } catch (cause) {
    const err = toError(cause);
    return { status: err.status, body: err.toBody() };
  }
};

export interface PostgresLinkDeps {
  readonly isOwner: IsOwner;
  readonly mailbox: Pick<Mailbox, "onFrame" | "send" | "withdraw">;
  readonly tending: Tending;
  readonly registry: Pick<Registry, "get">;
  /** Answers a call for a runtime broker whose socket is held here. Never rejects. */
  readonly serve: (request: RelayedRequest) => Promise<PeerAnswer>;
}

/** A replica that lives answers at the latest with its fallback poll. */
const OPEN_TIMEOUT_MS = 3_000;
const ANSWER_GRACE_MS = 3_000;
/** How often somebody who waits to be heard at all looks whether the other still holds the runtime broker's socket. */
const OPEN_LOOK_MS = 500;
/** A statement of unknown fate may put its frames down again so long after they were read (see `Mailbox`). */
const REMEMBER_MS = 60_000;

const answerBody = z.object({ status: z.number().int(), body: z.unknown() });

interface WaitingCall {
  readonly accepted: () => void;
  readonly answered: (answer: PeerAnswer) => void;
}

/**
 * Streams and calls through the database, between replicas that cannot reach each other (design section 8). Slower than
 * a socket by a commit and a signal; the windows of streams bound what lies in the table.
 */
export class PostgresLink implements OwnerLink, Service {
  readonly #base: Base;
  readonly #deps: PostgresLinkDeps;
  readonly #ends = new Map<Uuid, StreamEndpoint>();
  readonly #calls = new Map<Uuid, WaitingCall>();
  /** What others have begun here, and when, the oldest first. */
  readonly #begun = new Map<Uuid, number>();
  #off: (() => void) | undefined;

  constructor(base: Base, deps: PostgresLinkDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  async start(): Promise<void> {
    this.#off ??= this.#deps.mailbox.onFrame((frame) => this.#receive(frame));
  }

  async stop(): Promise<void> {
    this.#off?.();
    this.#off = undefined;
  }

  reaches(): boolean {
    return true;
  }

  async open(
    owner: Owner,
    request: AgentStreamRequest,
    handler: StreamHandler,
  ): Promise<AgentStream | "not_owner" | "unreachable"> {
    const conversation = this.#converse(owner.instanceId, this.#base.random.uuid());
    const { streamId } = conversation.thread;
    const end: EntryEnd = new EntryEnd(conversation, {
      handler,
      isOwner: () => this.#deps.isOwner(owner, request.runtimeBrokerId),
      onGone: () => this.#remove(streamId, end),
    });
    this.#add(streamId, end);
    conversation.say("open", Buffer.from(toQuery(request)));
    const heard = await this.#heard(owner, request.runtimeBrokerId, end.answered);
    // It may have come while the database was asked who the owner is, and output with it.
    if (end.opened) return end;
    end.close("not opened");
    return heard ? "not_owner" : "unreachable";
  }

  /** Has the owner run a call; `unreachable` when it has certainly not. */
  async call(owner: Owner, request: RelayedRequest): Promise<PeerAnswer | "unreachable"> {
    const conversation = this.#converse(owner.instanceId, this.#base.random.uuid());
    const { streamId } = conversation.thread;
    const [accepted, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<PeerAnswer>()];
    this.#calls.set(streamId, { accepted: accepted.resolve, answered: answered.resolve });
    try {
      conversation.say("call", request);
      // Taken back from the table, it has not been read and never will be.
      const heard = await this.#heard(owner, request.runtimeBrokerId, accepted.promise);
      if (heard !== "heard" && (await this.#deps.mailbox.withdraw(conversation.thread)))
        return heard ? NOT_OWNER : "unreachable";
      return (await this.#answerFrom(owner, request, answered.promise)) ?? NO_ANSWER;
    } finally {
      this.#calls.delete(streamId);
    }
  }

  /** Whether the owner says anything. Undefined when it does not in time, "moved" as soon as it is not the owner any more. */
  async #heard(owner: Owner, runtimeBrokerId: Uuid, first: Promise<void>): Promise<"heard" | "moved" | undefined> {
    const { clock } = this.#base;
    const heard = first.then((): "heard" => "heard");
    for (const until = clock.elapsed() + OPEN_TIMEOUT_MS; clock.elapsed() < until; ) {
      const said = await this.#within(Math.min(OPEN_LOOK_MS, until - clock.elapsed()), heard);
      if (said) return said;
      if (!(await this.#deps.isOwner(owner, runtimeBrokerId).catch(() => true))) return "moved";
    }
    return undefined;
  }

  /** Undefined when there is none in time, or its replica has lost the runtime broker's socket and says nothing. */
  async #answerFrom(owner: Owner, request: RelayedRequest, answer: Promise<PeerAnswer>) {
    const over = new AbortController();
    const isOwner = () => this.#deps.isOwner(owner, request.runtimeBrokerId);
    const moved = ownerMoved(this.#base.clock, isOwner, over.signal);
    try {
      return await this.#within(request.timeoutMs + ANSWER_GRACE_MS, Promise.race([answer, moved]));
    } finally {
      over.abort();
    }
  }

  #converse(to: Uuid, streamId: Uuid): Conversation {
    return new Conversation(this.#base.clock, this.#deps.mailbox, to, streamId);
  }

  #add(streamId: Uuid, end: StreamEndpoint): void {
    this.#ends.set(streamId, end);
    this.#deps.tending.add(end);
  }

  #remove(streamId: Uuid, end: StreamEndpoint): void {
    this.#ends.delete(streamId);
    this.#deps.tending.remove(end);
  }

  #receive(frame: StreamFrameRow): void {
    const end = this.#ends.get(frame.streamId);
    if (end) end.receive(frame);
    else if (frame.kind === "open" && this.#isNew(frame)) this.#open(frame);
    else if (frame.kind === "call" && this.#isNew(frame)) void this.#answer(frame);
    else if (frame.kind === "accepted") this.#calls.get(frame.streamId)?.accepted();
    else if (frame.kind === "answer") {
      const answer = answerBody.safeParse(json(frame.body));
      this.#calls.get(frame.streamId)?.answered(answer.data ?? { status: 502, body: undefined });
    }
  }

  /** Whether this has not begun before: a command that was put down twice must not run twice. */
  #isNew({ streamId }: StreamFrameRow): boolean {
    const now = this.#base.clock.elapsed();
    for (const [id, at] of this.#begun) {
      if (now - at < REMEMBER_MS) break;
      this.#begun.delete(id);
    }
    if (this.#begun.has(streamId)) return false;
    this.#begun.set(streamId, now);
    return true;
  }

  #open(frame: StreamFrameRow): void {
    const { streamId, fromReplica } = frame;
    const conversation = this.#converse(fromReplica, streamId);
    conversation.hear(frame);
    const request = fromQuery(frame.body.toString());
    const end: OwnerEnd = new OwnerEnd(conversation, () => this.#remove(streamId, end));
    const terminal = request && this.#deps.tending.open && openHere(this.#base, this.#deps.registry, request, end);
    if (!terminal) {
      conversation.say("refused");
      return;
    }
    conversation.say("opened");
    end.begin(terminal);
    this.#add(streamId, end);
  }

  async #answer(frame: StreamFrameRow): Promise<void> {
    const conversation = this.#converse(frame.fromReplica, frame.streamId);
    const request = relayedRequest.safeParse(json(frame.body));
    conversation.say("accepted");
    const answer = request.success ? await this.#deps.serve(request.data) : { status: 400, body: undefined };
    conversation.say("answer", answer);
  }

  async #within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
    const over = new AbortController();
    try {
      return await Promise.race([promise, this.#base.clock.sleep(ms, over.signal).then(() => undefined)]);
    } finally {
      over.abort();
    }
  }
}

const json = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
};
