import { type FileHandle, open, stat } from "node:fs/promises";
import { newsAfter, placeOf } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { AttachmentEnd, Following, FollowRequest } from "../runtime.ts";
import { previousLog } from "./outputLog.ts";
import { PlainLines } from "./plainText.ts";

const READ_BYTES = 65_536;
/** The last lines are looked for in so much of the log's end. */
const NEAR_BYTES = 1_048_576;
/** A reader's place, in so much: all that an `OutputLog` keeps. */
const FAR_BYTES = 8_388_608;
const POLL_MS = 250;
/** A file is away for a moment when it is replaced; one that stays away was removed with its agent. */
const MISSES_TO_END = 4;

/**
 * A log file that is read as it grows, across its replacements (see `OutputLog`). A reader that waits misses what was
 * replaced twice meanwhile: nothing piles up for it.
 */
export class FollowedFile implements Following {
  readonly ended: Promise<AttachmentEnd>;
  readonly #base: Base;
  readonly #path: string;
  readonly #onData: (data: Buffer) => void;
  #lines = new PlainLines();
  readonly #left = new AbortController();
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES);
  #file: FileHandle | undefined;
  #inode = 0;
  #position = 0;
  #paused = false;
  #resumed: (() => void) | undefined;

  private constructor(base: Base, path: string, request: FollowRequest) {
    this.#base = base;
    this.#path = path;
    this.#onData = request.onData;
    this.ended = this.#run(request)
      .catch((err: unknown): AttachmentEnd => {
        base.log.warn({ err }, "reading a log failed");
        return { code: 500, reason: "the log could not be read" };
      })
      .finally(() => this.#file?.close());
  }

  static open(base: Base, path: string, request: FollowRequest): FollowedFile {
    return new FollowedFile(base, path, request);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#resumed?.();
  }

  close(): void {
    this.#left.abort();
    this.#resumed?.();
  }

  async #run(request: FollowRequest): Promise<AttachmentEnd> {
    const { signal } = this.#left;
    await this.#reopen();
    if (this.#file) await this.#begin(this.#file, request);
    let misses = 0;
    while (!signal.aborted) {
      if (await this.#read()) continue;
      const found = await this.#look();
      // One that has never been there is waited for: its agent has not started yet.
      misses = found || !this.#file ? 0 : misses + 1;
      if (misses >= MISSES_TO_END) return { code: 0, reason: "the log was removed" };
      if (found !== "new") await this.#base.clock.sleep(POLL_MS, signal);
    }
    return { code: 0, reason: "session closed" };
  }

  /** What is there already: what came after the reader's place, or the last lines. */
  async #begin(file: FileHandle, { tail, after }: FollowRequest): Promise<void> {
    const { size } = await file.stat();
    this.#position = size;
    if (!after) return this.#showAll(lastLines((await this.#kept(file, size, NEAR_BYTES)).text, tail));
    // All of it: where the same lines stand several times, it is the first that leaves nothing out.
    const kept = await this.#kept(file, size, FAR_BYTES);
    const news = newsAfter(kept.text, placeOf(after));
    // A place that is not kept any more lies before all that is; the first line of that may be a part of one.
    const text = news ?? (kept.all ? kept.text : withoutFirstLine(kept.text));
    // A copy: a slow reader would keep the rest in memory.
    await this.#showAll(Buffer.from(text));
  }

  /** The end of the log as text, with that of the one before; the line without an end is kept for what follows. */
  async #kept(file: FileHandle, size: number, maxBytes: number): Promise<{ text: Buffer; all: boolean }> {
    this.#lines = new PlainLines();
    const current = Math.min(size, maxBytes);
    const before = await this.#previous(maxBytes - current);
    const text = [...before.text, ...(await this.#textOf(file, size - current, size))];
    return { text: Buffer.concat(text), all: current + before.bytes < maxBytes };
  }

  /** The end of the log before this one. */
  async #previous(maxBytes: number): Promise<{ text: Buffer[]; bytes: number }> {
    const file = maxBytes > 0 ? await open(previousLog(this.#path), "r").catch(() => undefined) : undefined;
    if (!file) return { text: [], bytes: 0 };
    try {
      const { ino, size } = await file.stat();
      // Replaced meanwhile, this one is that one.
      const bytes = ino === this.#inode ? 0 : Math.min(size, maxBytes);
      return { text: await this.#textOf(file, size - bytes, size), bytes };
    } finally {
      await file.close();
    }
  }

  /** A part of a file as text, a piece at a time: whatever else this process does has its turn in between. */
  async #textOf(file: FileHandle, from: number, to: number): Promise<Buffer[]> {
    const text: Buffer[] = [];
    for (let at = from; at < to && !this.#left.signal.aborted; ) {
      const { bytesRead } = await file.read(this.#buffer, 0, Math.min(READ_BYTES, to - at), at);
      if (bytesRead === 0) break;
      at += bytesRead;
      text.push(Buffer.from(this.#lines.push(this.#buffer.subarray(0, bytesRead))));
    }
    return text;
  }

  async #showAll(text: Buffer): Promise<void> {
    for (let at = 0; at < text.byteLength; at += READ_BYTES) await this.#show(text.subarray(at, at + READ_BYTES));
  }

  /** Reads on. False at the end of the file. */
  async #read(): Promise<boolean> {
    const { bytesRead = 0 } = (await this.#file?.read(this.#buffer, 0, READ_BYTES, this.#position)) ?? {};
    if (bytesRead === 0) return false;
    this.#position += bytesRead;
    await this.#show(Buffer.from(this.#lines.push(this.#buffer.subarray(0, bytesRead))));
    return true;
  }

  /** What has become of the file at its end: still the same, another in its place (now open), or undefined for none. */
  async #look(): Promise<"same" | "new" | undefined> {
    const now = await stat(this.#path).catch(() => undefined);
    if (!now) return undefined;
    if (this.#file && now.ino === this.#inode) {
      if (now.size < this.#position) this.#position = 0;
      return "same";
    }
    // What was written between the last read and the replacement is still to come from the old one.
    while (!this.#left.signal.aborted && (await this.#read()));
    return (await this.#reopen()) ? "new" : undefined;
  }

  async #reopen(): Promise<boolean> {
    const file = await open(this.#path, "r").catch(() => undefined);
    if (!file) return false;
    await this.#file?.close();
    this.#file = file;
    this.#inode = (await file.stat()).ino;
    this.#position = 0;
    return true;
  }

  /** Resolves once more may be shown. */
  async #show(text: Buffer): Promise<void> {
    if (text.byteLength > 0 && !this.#left.signal.aborted) this.#onData(text);
    if (!this.#paused || this.#left.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#resumed = () => {
        this.#resumed = undefined;
        resolve();
      };
    });
  }
}

const NEWLINE = 0x0a;

/** The last `count` of these lines. */
const lastLines = (text: Buffer, count: number): Buffer => {
  let at = text.byteLength;
  for (let left = count; left > 0 && at > 0; left -= 1) at = at < 2 ? 0 : text.lastIndexOf(NEWLINE, at - 2) + 1;
  return text.subarray(at);
};

const withoutFirstLine = (text: Buffer): Buffer => text.subarray(text.indexOf(NEWLINE) + 1);
