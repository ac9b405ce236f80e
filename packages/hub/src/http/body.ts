import { HubError } from "@rootstock/protocol";

export const DEFAULT_MAX_BODY_BYTES = 1_048_576;

const NO_BYTES = Buffer.alloc(0);

/** How much beyond its limit a body is read and thrown away: a client hears a refusal only when it has sent everything. */
const MAX_DISCARDED_BYTES = 33_554_432;

/** A request whose body has not been read. */
export interface IncomingBody {
  readonly method: string;
  readonly headers: Headers;
  readonly bytes: () => AsyncIterable<Uint8Array> | null;
}

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
    for await (const chunk of bytes) {
      size += chunk.byteLength;
      if (size > max + MAX_DISCARDED_BYTES) break;
      if (size > max) chunks = [];
      else chunks.push(chunk);
    }
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
    text = decoder.decode(bytes);
  } catch (err) {
    throw new HubError("invalid_request", "the body is not valid UTF-8", { cause: err });
  }
  try {
    return JSON.parse(text);
  } catch (err) {
    throw new HubError("invalid_request", "the body is not valid JSON", { cause: err });
  }
};
