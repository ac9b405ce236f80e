import type { Uuid } from "@rootstock/protocol";
import { type Base, Hook, Pieces, type Service, SingleFlight } from "@rootstock/service";
import {
  type Db,
  insertStreamFrames,
  type StreamFrameRow,
  takeStreamFrames,
  withdrawStreamFrames,
} from "@rootstock/store";
import type { SealedFrames } from "./sealedFrames.ts";

/** How replicas tell each other to look. `CommandBus` is one. */
export interface FrameSignals {
  /** Tells the replicas with these ids that something was put down for them. */
  done(ids: Iterable<Uuid>): void;
  onDone(fn: (ids: ReadonlySet<Uuid>) => void): () => void;
  onLookAtEverything(fn: () => void): () => void;
}

export interface MailboxOptions {
  readonly db: Db;
  readonly signals: FrameSignals;
  readonly instanceId: Uuid;
  readonly sealed: Pick<SealedFrames, "seal" | "open">;
}

const BATCH = 64;
/** Pieces of output that wait for the same statement become one frame up to this size. */
const MERGE_BYTES = 262_144;
const PIECE_BYTES = 16_384;
const RETRY_MS = 250;
/** After so long both ends have given the stream up. */
const RETRIES = 40;

interface Waiting {
  readonly thread: Thread;
  readonly kind: string;
  readonly body: Buffer;
  /** What comes after it. */
  more: Pieces | undefined;
}

const bytesOf = ({ body, more }: Waiting): number => body.byteLength + (more?.bytes ?? 0);

const wholeOf = ({ body, more }: Waiting): Buffer => {
  const all = [body];
  for (let piece = more?.shift(); piece; piece = more?.shift()) all.push(piece);
  return Buffer.concat(all);
};

/** One direction of a conversation with a replica. */
export class Thread {
  readonly to: Uuid;
  readonly streamId: Uuid;
  /** The number of its next frame: given when it is put down, for frames may be merged until then. */
  nextSeq = 0;

  constructor(to: Uuid, streamId: Uuid) {
    this.to = to;
    this.streamId = streamId;
  }
}

/**
 * Frames from and to other replicas through the database, for those that cannot reach each other. One statement is in
 * flight in each direction: frames of a thread are committed, and read, in order.
 */
export class Mailbox implements Service {
  readonly #base: Base;
  readonly #options: MailboxOptions;
  readonly #arrived: Hook<StreamFrameRow>;
  readonly #sending: SingleFlight;
  readonly #reading: SingleFlight;
  readonly #stopping = new AbortController();
  #queue: Waiting[] = [];
  #offs: (() => void)[] = [];

  constructor(base: Base, options: MailboxOptions) {
    this.#base = base;
    this.#options = options;
    this.#arrived = new Hook("stream frame", base.log);
    this.#sending = new SingleFlight(
      () => this.#flush(),
      (err) => base.log.warn({ err }, "frames of streams not put down"),
    );
    this.#reading = new SingleFlight(
      () => this.#read(),
      (err) => base.log.debug({ err }, "frames of streams not read"),
    );
  }

  /** Calls `fn` with every frame for this replica. */
  onFrame(fn: (frame: StreamFrameRow) => void): () => void {
    return this.#arrived.on(fn);
  }

  send(thread: Thread, kind: string, body: Buffer = Buffer.alloc(0)): void {
    const last = this.#queue.at(-1);
    if (kind === "data" && last?.thread === thread && last.kind === "data" && bytesOf(last) < MERGE_BYTES) {
      last.more ??= new Pieces(PIECE_BYTES);
      last.more.push(body);
    } else this.#queue.push({ thread, kind, body, more: undefined });
    void this.#sending.poke();
  }

  /** Takes back what the other replica has not read. False when there was nothing any more. */
  async withdraw({ to, streamId }: Thread): Promise<boolean> {
    await this.#sending.idle();
    return withdrawStreamFrames(this.#options.db, to, streamId);
  }

  async start(): Promise<void> {
    const { signals, instanceId } = this.#options;
    this.#offs = [
      signals.onDone((ids) => {
        if (ids.has(instanceId)) void this.#reading.poke();
      }),
      signals.onLookAtEverything(() => void this.#reading.poke()),
    ];
  }

  /** Puts down what is left, if that can be done at once. */
  async stop(): Promise<void> {
    for (const off of this.#offs.splice(0)) off();
    this.#stopping.abort();
    await Promise.all([this.#sending.idle(), this.#reading.idle()]);
  }

  async #flush(): Promise<void> {
    const { instanceId, signals, sealed } = this.#options;
    while (this.#queue.length > 0) {
      const said = this.#queue.splice(0, BATCH).map((waiting) => {
        const { thread, kind } = waiting;
        const seq = thread.nextSeq;
        thread.nextSeq += 1;
        const { to: toReplica, streamId } = thread;
        return { toReplica, fromReplica: instanceId, streamId, seq, kind, body: wholeOf(waiting) };
      });
      const frames = await Promise.all(said.map((frame) => sealed.seal(frame)));
      if (await this.#insert(frames)) signals.done(new Set(frames.map((f) => f.toReplica)));
    }
  }

  /** A statement whose fate is unknown is repeated: the other end leaves out numbers that it has had. */
  async #insert(frames: readonly StreamFrameRow[]): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await insertStreamFrames(this.#options.db, frames);
        return true;
      } catch (err) {
        if (attempt >= RETRIES || this.#stopping.signal.aborted) throw err;
        this.#base.log.debug({ err, attempt }, "frames of streams not put down yet");
        await this.#base.clock.sleep(RETRY_MS, this.#stopping.signal);
      }
    }
  }

  async #read(): Promise<void> {
    const { db, instanceId } = this.#options;
    for (;;) {
      const frames = await takeStreamFrames(db, instanceId, BATCH);
      for (const frame of await Promise.all(frames.map((f) => this.#opened(f)))) if (frame) this.#arrived.emit(frame);
      if (frames.length < BATCH) return;
    }
  }

  /** Undefined for one that does not open: it counts as lost, which its stream notices by the numbers. */
  async #opened(frame: StreamFrameRow): Promise<StreamFrameRow | undefined> {
    try {
      return await this.#options.sealed.open(frame);
    } catch (err) {
      this.#base.log.warn({ err, streamId: frame.streamId, fromReplica: frame.fromReplica }, "a frame does not open");
      return undefined;
    }
  }
}
