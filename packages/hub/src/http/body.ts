import { HubError } from "@rootstock/protocol";

export const DEFAULT_MAX_BODY_BYTES = 1_048_576;

const NO_BYTES = Buffer.alloc(0);

/** The whole body. Throws 413 as soon as it is longer than `max`, without reading on. */
export const readBody = async (request: Request, max: number): Promise<Buffer> => {
  if (request.method === "GET" || request.method === "HEAD") return NO_BYTES;
  const tooLarge = () =>
    new HubError("payload_too_large", `the body must not be larger than ${max} bytes`, { details: { maxBytes: max } });
  if (Number(request.headers.get("content-length") ?? 0) > max) throw tooLarge();
  if (request.body === null) return NO_BYTES;
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of request.body) {
      size += chunk.byteLength;
      if (size > max) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (err) {
    if (err instanceof HubError) throw err;
    throw new HubError("invalid_request", "the body ended before it was complete", { cause: err });
  }
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
