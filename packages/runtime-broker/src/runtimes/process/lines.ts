import { StringDecoder } from "node:string_decoder";

/** Cuts a byte stream into lines. */
export class LineReader {
  readonly #maxBytes: number;
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";

  constructor(maxBytes: number, onLine: (line: string) => void) {
    this.#maxBytes = maxBytes;
    this.#onLine = onLine;
  }

  /** @throws Error when a line is longer than allowed */
  push(bytes: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(bytes)).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > this.#maxBytes) throw new Error("line too long");
    for (const line of lines) if (line !== "") this.#onLine(line);
  }
}

/** A JSON line as an object, undefined when it is none. */
export const parseLine = (line: string): unknown => {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
};
