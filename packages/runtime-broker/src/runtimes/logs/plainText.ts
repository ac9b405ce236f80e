import { StringDecoder } from "node:string_decoder";
import { stripVTControlCharacters } from "node:util";

/** A line that is longer is passed on in parts. */
const MAX_LINE_CHARACTERS = 65_536;

/** A terminal's output as text to read: control sequences and carriage returns removed. */
export const plainText = (output: string): string =>
  stripVTControlCharacters(output).replaceAll("\r\n", "\n").replaceAll("\r", "");

/** The same for output that comes in pieces: whole lines, so that no sequence is cut in two. */
export class PlainLines {
  readonly #decoder = new StringDecoder("utf8");
  #rest = "";

  /** The lines that `data` completes, as one text. */
  push(data: Buffer): string {
    const text = this.#rest + this.#decoder.write(data);
    const end = text.lastIndexOf("\n") + 1;
    this.#rest = text.slice(end);
    if (this.#rest.length <= MAX_LINE_CHARACTERS) return plainText(text.slice(0, end));
    this.#rest = "";
    return plainText(text);
  }
}
