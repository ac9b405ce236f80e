import type { StreamFrameRow } from "@rootstock/store";
import { z } from "zod";
import type { StreamEnd, StreamHandler } from "../control/index.ts";
import type { AgentStream, Tended } from "./agentStream.ts";
import { LOST } from "./closeCodes.ts";
import { BEAT_MS, type Conversation } from "./conversation.ts";
import { Doubt } from "./ownerMoved.ts";

/** The two ends of a terminal whose frames go through the database. */

const bytesBody = z.object({ bytes: z.number().int().min(1) });
const sizeBody = z.object({ cols: z.number().int(), rows: z.number().int() });
const endBody = z.object({ reason: z.string(), code: z.number().int().optional() });

/** Consumed bytes are told in steps of this, well below the window of a stream. */
const CONSUMED_STEP_BYTES = 65_536;

/** An owner that has missed a beat may have died. */
const SUSPECT_MS = BEAT_MS * 1.5;

const parse = <T>(schema: z.ZodType<T>, body: Buffer): T | undefined => {
  try {
    return schema.safeParse(JSON.parse(body.toString())).data;
  } catch {
    return undefined;
  }
};

/** Takes the frames of one stream. */
export interface StreamEndpoint extends Tended {
  receive(frame: StreamFrameRow): void;
}

export interface EntryEndOptions {
  readonly handler: StreamHandler;
  /** Whether the replica at the other end still holds the runtime broker's socket, as far as the database knows. */
  readonly isOwner: () => Promise<boolean>;
  readonly onGone: () => void;
}

/** The entry replica's end. */
export class EntryEnd implements StreamEndpoint, AgentStream {
  readonly #conversation: Conversation;
  readonly #options: EntryEndOptions;
  readonly #doubt: Doubt;
  readonly #answer: () => void;
  /** Resolves when the owner has opened the terminal, or will not. */
  readonly answered: Promise<void>;
  #opened = false;
  #unreported = 0;
  #over = false;

  constructor(conversation: Conversation, options: EntryEndOptions) {
    this.#conversation = conversation;
    this.#options = options;
    this.#doubt = new Doubt(options.isOwner, () => this.#end({ code: undefined, reason: LOST.brokerDisconnected }));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.answered = promise;
    this.#answer = resolve;
  }

  /** Whether the owner has opened the terminal: from then on the handler is told of it, and must not be given another. */
  get opened(): boolean {
    return this.#opened;
  }

  write(data: Uint8Array): void {
    if (!this.#over) this.#conversation.say("data", Buffer.from(data));
  }

  resize(cols: number, rows: number): void {
    if (!this.#over) this.#conversation.say("resize", { cols, rows });
  }

  consumed(bytes: number): void {
    this.#unreported += bytes;
    if (this.#over || this.#unreported < CONSUMED_STEP_BYTES) return;
    this.#conversation.say("consumed", { bytes: this.#unreported });
    this.#unreported = 0;
  }

  close(reason: string): void {
    if (!this.#over) this.#conversation.say("close", { reason });
    this.#leave();
  }

  tick(now: number): void {
    if (!this.#conversation.tick(now)) this.#end({ code: undefined, reason: LOST.brokerDisconnected });
    else if (this.#conversation.silentMs(now) > SUSPECT_MS) this.#doubt.look();
  }

  shutDown(): void {
    this.#conversation.say("close", { reason: LOST.shuttingDown });
    this.#end({ code: undefined, reason: LOST.shuttingDown });
  }

  receive(frame: StreamFrameRow): void {
    const arrival = this.#conversation.hear(frame);
    if (arrival === "gap") {
      this.#conversation.say("close", { reason: LOST.dropped });
      this.#end({ code: undefined, reason: LOST.dropped });
    }
    if (arrival !== "next") return;
    const { kind, body } = frame;
    if (kind === "opened") {
      this.#opened = true;
      this.#answer();
    } else if (kind === "refused") this.#answer();
    else if (kind === "data") this.#options.handler.onData(body);
    else if (kind === "taken") this.#options.handler.onTaken(parse(bytesBody, body)?.bytes ?? 0);
    else if (kind === "end") {
      const end = parse(endBody, body);
      this.#end({ code: end?.code, reason: end?.reason ?? LOST.dropped });
    }
  }

  #end(end: StreamEnd): void {
    if (this.#over) return;
    this.#leave();
    if (this.#opened) this.#options.handler.onClose(end);
    else this.#answer();
  }

  #leave(): void {
    this.#over = true;
    this.#options.onGone();
  }
}

/** The end of the replica that holds the runtime broker's socket. */
export class OwnerEnd implements StreamEndpoint, StreamHandler {
  readonly #conversation: Conversation;
  readonly #onGone: () => void;
  #terminal: AgentStream | undefined;
  #over = false;

  constructor(conversation: Conversation, onGone: () => void) {
    this.#conversation = conversation;
    this.#onGone = onGone;
  }

  begin(terminal: AgentStream): void {
    this.#terminal = terminal;
  }

  onData(data: Buffer): void {
    if (!this.#over) this.#conversation.say("data", data);
  }

  onTaken(bytes: number): void {
    if (!this.#over) this.#conversation.say("taken", { bytes });
  }

  onClose({ reason, code }: StreamEnd): void {
    if (this.#over) return;
    this.#conversation.say("end", { reason, ...(code !== undefined && { code }) });
    this.#leave("ended");
  }

  tick(now: number): void {
    if (!this.#conversation.tick(now)) this.#leave("viewer lost");
  }

  shutDown(): void {
    this.onClose({ reason: LOST.brokerDisconnected, code: undefined });
  }

  receive(frame: StreamFrameRow): void {
    const arrival = this.#conversation.hear(frame);
    if (arrival === "gap") this.onClose({ reason: LOST.dropped, code: undefined });
    if (arrival !== "next" || !this.#terminal) return;
    const { kind, body } = frame;
    if (kind === "data") this.#terminal.write(body);
    else if (kind === "consumed") this.#terminal.consumed(parse(bytesBody, body)?.bytes ?? 0);
    else if (kind === "close") this.#leave("session closed");
    else if (kind === "resize") {
      const size = parse(sizeBody, body);
      if (size) this.#terminal.resize(size.cols, size.rows);
    }
  }

  #leave(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#onGone();
    this.#terminal?.close(reason);
  }
}
