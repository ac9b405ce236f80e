/** One dispatched frame of an event stream. */
export interface SseFrame {
  /** `message` when the stream names none. */
  readonly event: string;
  readonly data: string;
  /** The last id seen so far, in this frame or an earlier one; empty before the first. */
  readonly id: string;
  /** Milliseconds to wait before a reconnect, once the stream has said so. */
  readonly retry: number | undefined;
}

/**
 * Splits an event stream into frames (WHATWG HTML, "Server-sent events"). A frame without data is not dispatched by
 * the rules, but here it is, with empty data, when it carries an id: the hub sends the position alone as a heartbeat.
 */
export class SseParser {
  #rest = "";
  #id = "";
  #retry: number | undefined;
  #event = "";
  #data: string[] = [];
  #hasId = false;

  /** The frames that `chunk` completes. A frame may span chunks; so may a line. */
  push(chunk: string): SseFrame[] {
    const frames: SseFrame[] = [];
    const text = this.#rest + chunk;
    // A trailing CR may be the first half of CRLF: it stays until the next chunk decides.
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else if (this.#data.length > 0 || this.#hasId) frames.push(this.#dispatch());
      else this.#event = "";
    }
    return frames;
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
    else if (name === "id" && !value.includes("\u0000")) {
      this.#id = value;
      this.#hasId = true;
    }
  }

  #dispatch(): SseFrame {
    const frame = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id, retry: this.#retry };
    this.#event = "";
    this.#data = [];
    this.#hasId = false;
    return frame;
  }
}
