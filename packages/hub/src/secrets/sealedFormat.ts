import { SecretBoxError } from "./errors.ts";
import type { WrappedKey } from "./keyManagement.ts";

/** The first byte of a value that carries its wrapped data key. */
export const ENVELOPE_VERSION = 2;
const MAX_ID_BYTES = 255;
const MAX_WRAPPED_BYTES = 65_535;

/** How every envelope begins whose data key this key wrapped. */
export const envelopeHead = (keyId: string): Buffer => {
  const id = Buffer.from(keyId);
  if (id.byteLength > MAX_ID_BYTES) throw new RangeError("the id of a wrapping key is too long");
  return Buffer.concat([Buffer.of(ENVELOPE_VERSION, id.byteLength), id]);
};

/** An envelope: version, id of the wrapping key, wrapped data key, encrypted value; the first two with their lengths. */
export const encodeEnvelope = ({ keyId, bytes }: WrappedKey, encrypted: Uint8Array): Buffer => {
  if (bytes.byteLength > MAX_WRAPPED_BYTES) throw new RangeError("a wrapped data key is too long");
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.byteLength);
  return Buffer.concat([envelopeHead(keyId), length, bytes, encrypted]);
};

/** The parts of an envelope. Throws {@link SecretBoxError} for one that is cut. */
export const decodeEnvelope = (sealed: Buffer): { readonly wrapped: WrappedKey; readonly encrypted: Buffer } => {
  const idEnds = 2 + (sealed[1] ?? 0);
  if (sealed.byteLength < idEnds + 2) throw new SecretBoxError("sealed value too short");
  const wrappedEnds = idEnds + 2 + sealed.readUInt16BE(idEnds);
  if (sealed.byteLength < wrappedEnds) throw new SecretBoxError("sealed value too short");
  return {
    wrapped: { keyId: sealed.toString("utf8", 2, idEnds), bytes: sealed.subarray(idEnds + 2, wrappedEnds) },
    encrypted: sealed.subarray(wrappedEnds),
  };
};
