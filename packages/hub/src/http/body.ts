import { isAscii } from "node:buffer";
import { Readable } from "node:stream";
import { HubError } from "@rootstock/protocol";

export const DEFAULT_MAX_BODY_BYTES = 1_048_576;

const NO_BYTES = Buffer.alloc(0);

/** How much beyond its limit a body is read and thrown away: a client hears a refusal only when it has sent everything. */
const MAX_DISCARDED_BYTES = 33_554_432;

/** A request whose body has not been read. */
export interface IncomingBody {
  readonly method: string;
  readonly headers: Headers;
  readonly bytes: () => Readable | AsyncIterable<Uint8Array> | null;
}

/** Takes a piece. False: no more is wanted. */
type Take = (chunk: Uint8Array) => boolean;

/** As `for await` would, at a tenth of the cost: nearly every body is one piece that is there already. */
const readStream = (stream: Readable, take: Take): Promise<void> =>
  new Promise((resolve, reject) => {
    const settle = (err?: unknown): void => {
      stream.off("data", onData).off("end", onEnd).off("error", settle).off("close", onClose);
      if (err === undefined) resolve();
      else reject(err);
    };
    const onEnd = () => settle();
    const onClose = () => settle(stream.errored ?? new Error("closed before its end"));
    const onData = (chunk: Uint8Array) => {
      if (take(chunk)) return;
      stream.pause();
      settle();
    };
    if (stream.readableEnded) resolve();
    else if (stream.destroyed) onClose();
    else stream.on("end", onEnd).on("error", settle).on("close", onClose).on("data", onData);
  });

const readIterable = async (bytes: AsyncIterable<Uint8Array>, take: Take): Promise<void> => {
  for await (const chunk of bytes) if (!take(chunk)) return;
};

/**
 * The whole body. Throws 413 for one longer than `max`; of that no more than `max` is kept, and only what is absurdly
 * long is not read to its end.
 */
export const readBody = async (request: IncomingBody, max: number): Promise<Buffer> => {
  if (request.method === "GET" || request.method === "HEAD") return NO_BYTES;
  const tooLarge = () =>
    new HubError("payload_too_large", `the body must not be larger than ${max} bytes`, { details: { maxBytes: max } });
  if (Number(request.headers.get("content-length") ?? 0) > max + MAX_DISCARDED_BYTES) throw tooLarge();
  const bytes = request.bytes();
  if (bytes === null) return NO_BYTES;
  let chunks: Uint8Array[] = [];
  let size = 0;
  try {
    const take: Take = (chunk) => {
      size += chunk.byteLength;
      if (size > max) chunks = [];
      else chunks.push(chunk);
      return size <= max + MAX_DISCARDED_BYTES;
    };
    await (bytes instanceof Readable ? readStream(bytes, take) : readIterable(bytes, take));
  } catch (err) {
    throw new HubError("invalid_request", "the body ended before it was complete", { cause: err });
  }
  if (size > max) throw tooLarge();
  return Buffer.concat(chunks);
};

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The JSON value in `bytes`; an empty body is `{}`. Throws 400 for anything that is not JSON in UTF-8. */
export const parseJson = (bytes: Buffer): unknown => {
  if (bytes.byteLength === 0) return {};
  let text: string;
  try {
    // Nearly always: and then no decoder is asked.
    text = isAscii(bytes) ? bytes.toString("latin1") : decoder.decode(bytes);
  } catch (err) {
    throw new HubError("invalid_request", "the body is not valid UTF-8", { cause: err });
  }
  try {
    return JSON.parse(text);
  } catch (err) {
    throw new HubError("invalid_request", "the body is not valid JSON", { cause: err });
  }
};
