import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { plainText } from "./plainText.ts";

/**
 * Where a session's output is kept: a file and the one before it, together at most `maxBytes`. Written synchronously:
 * the host has nothing better to do, and output then never piles up in memory.
 */
export class OutputLog {
  readonly #path: string;
  readonly #maxBytes: number;
  #fd: number;
  #bytes: number;

  constructor(path: string, maxBytes: number) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#fd = openSync(path, "a", 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  append(data: Buffer): void {
    for (let at = 0; at < data.byteLength; ) at += writeSync(this.#fd, data, at);
    this.#bytes += data.byteLength;
    if (this.#bytes < this.#maxBytes / 2) return;
    closeSync(this.#fd);
    renameSync(this.#path, previousLog(this.#path));
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Where the output before that in `path` is. */
export const previousLog = (path: string): string => `${path}.1`;

const tailOf = async (path: string, maxBytes: number): Promise<Buffer> => {
  const handle = await open(path, "r").catch(() => undefined);
  if (!handle) return Buffer.alloc(0);
  try {
    const { size } = await handle.stat();
    const buffer = Buffer.alloc(Math.min(size, maxBytes));
    const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, size - buffer.byteLength);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
};

/** The last `maxBytes` of a log as text to read: terminal control sequences removed, whole lines. */
export const readOutputLog = async (path: string, maxBytes: number): Promise<string> => {
  const current = await tailOf(path, maxBytes);
  const before =
    current.byteLength < maxBytes ? await tailOf(previousLog(path), maxBytes - current.byteLength) : Buffer.alloc(0);
  const bytes = Buffer.concat([before, current]);
  const text = plainText(bytes.toString("utf8"));
  // The first line may be a part of one.
  return bytes.byteLength >= maxBytes ? text.slice(text.indexOf("\n") + 1) : text;
};
