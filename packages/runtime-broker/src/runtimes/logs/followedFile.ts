import { type FileHandle, open, stat } from "node:fs/promises";
import type { Base } from "@rootstock/service";
import type { AttachmentEnd, Following, FollowRequest } from "../runtime.ts";
import { PlainLines } from "./plainText.ts";

const READ_BYTES = 65_536;
/** The lines that are there are looked for in so much of the file's end. */
const MAX_TAIL_BYTES = 1_048_576;
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
  readonly #lines = new PlainLines();
  readonly #left = new AbortController();
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES);
  #file: FileHandle | undefined;
  #inode = 0;
  #position = 0;
  #paused = false;
  #resumed: (() => void) | undefined;

  private constructor(base: Base, path: string, { onData, tail }: FollowRequest) {
    this.#base = base;
    this.#path = path;
    this.#onData = onData;
    this.ended = this.#run(tail)
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

  async #run(tail: number): Promise<AttachmentEnd> {
    const { signal } = this.#left;
    if (await this.#reopen()) await this.#begin(tail);
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

  /** The lines that are there. */
  async #begin(tail: number): Promise<void> {
    const { size = 0 } = (await this.#file?.stat()) ?? {};
    const length = Math.min(size, MAX_TAIL_BYTES);
    this.#position = size;
    const bytes = Buffer.alloc(length);
    const { bytesRead = 0 } = (await this.#file?.read(bytes, 0, length, size - length)) ?? {};
    const lines = this.#lines.push(bytes.subarray(0, bytesRead)).split("\n");
    const last = tail === 0 ? [] : lines.slice(0, -1).slice(-tail);
    if (last.length > 0) await this.#show(`${last.join("\n")}\n`);
  }

  /** Reads on. False at the end of the file. */
  async #read(): Promise<boolean> {
    const { bytesRead = 0 } = (await this.#file?.read(this.#buffer, 0, READ_BYTES, this.#position)) ?? {};
    if (bytesRead === 0) return false;
    this.#position += bytesRead;
    await this.#show(this.#lines.push(this.#buffer.subarray(0, bytesRead)));
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
  async #show(text: string): Promise<void> {
    if (text !== "" && !this.#left.signal.aborted) this.#onData(Buffer.from(text));
    if (!this.#paused || this.#left.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#resumed = () => {
        this.#resumed = undefined;
        resolve();
      };
    });
  }
}
