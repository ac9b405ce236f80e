import { StringDecoder } from "node:string_decoder";
import type { LogPlace } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { LogReader, toEventId } from "./logMark.ts";

/** A line that is longer is cut. */
const MAX_LINE_CHARACTERS = 65_536;

/**
 * Makes the lines of a log into events whose data is an entry as clients of log streams know it (spec/02 section 8). The
 * last line of each piece has an id, from which its reader may go on elsewhere.
 */
export class LogEvents {
  readonly #clock: Clock;
  /** A character may be cut in two between pieces. */
  readonly #decoder = new StringDecoder("utf8");
  readonly #reader: LogReader;
  #rest = "";
  #number = 0;

  /** `after`: where the reader has been before. */
  constructor(clock: Clock, after?: LogPlace) {
    this.#clock = clock;
    this.#reader = new LogReader(after);
  }

  /** The events of the lines that `data` completes. */
  push(data: Buffer): string {
    const lines = (this.#rest + this.#decoder.write(data)).split("\n");
    this.#rest = lines.pop() ?? "";
    this.#reader.push(data);
    const { place } = this.#reader;
    const [last, id] = [lines.length - 1, place && toEventId(place)];
    while (this.#rest.length > MAX_LINE_CHARACTERS) {
      lines.push(this.#rest.slice(0, MAX_LINE_CHARACTERS));
      this.#rest = this.#rest.slice(MAX_LINE_CHARACTERS);
    }
    return lines.map((line, n) => this.#event(line, n === last ? id : undefined)).join("");
  }

  /** The event of a last line that nothing ended; empty when there is none. */
  rest(): string {
    const line = this.#rest + this.#decoder.end();
    this.#rest = "";
    return line === "" ? "" : this.#event(line);
  }

  #event(line: string, id?: string): string {
    this.#number += 1;
    // A log of lines knows neither when they were written nor how grave they are.
    const entry = {
      timestamp: new Date(this.#clock.now()).toISOString(),
      severity: "DEFAULT",
      message: line.replace(/\r$/, ""),
      insertId: String(this.#number),
    };
    return `event: log\ndata: ${JSON.stringify(entry)}\n${id ? `id: ${id}\n` : ""}\n`;
  }
}
