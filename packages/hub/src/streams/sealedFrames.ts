import type { StreamFrameRow } from "@rootstock/store";
import type { SecretBox } from "../secrets/index.ts";

export interface SealedFramesOptions {
  readonly box: Pick<SecretBox, "seal" | "open">;
  /** Whether replicas may be there that read open frames alone. */
  readonly olderReplicas: () => boolean;
}

/** Stands before the kind of a frame whose body is sealed: replicas of the release before put down open ones. */
const SEALED = "sealed.";
const PURPOSE = "stream-frame";

/**
 * What is typed into terminals and told to runtime brokers, as it lies in the database for a moment, or for longer when
 * the replica that it is for is gone: sealed, so that no copy of the database shows it.
 */
export class SealedFrames {
  readonly #options: SealedFramesOptions;

  constructor(options: SealedFramesOptions) {
    this.#options = options;
  }

  /** The frame as it is to be put down. */
  async seal(frame: StreamFrameRow): Promise<StreamFrameRow> {
    if (this.#options.olderReplicas()) return frame;
    const body = await this.#options.box.seal(PURPOSE, placeOf(frame), frame.body);
    return { ...frame, kind: SEALED + frame.kind, body };
  }

  /** The frame as it was said. Throws `SecretBoxError` for one that was changed, or moved to another place. */
  async open(frame: StreamFrameRow): Promise<StreamFrameRow> {
    if (!frame.kind.startsWith(SEALED)) return frame;
    const said = { ...frame, kind: frame.kind.slice(SEALED.length) };
    return { ...said, body: await this.#options.box.open(PURPOSE, placeOf(said), frame.body) };
  }
}

/** Where a frame belongs, and nowhere else does its body open. */
const placeOf = ({ toReplica, fromReplica, streamId, seq, kind }: StreamFrameRow): string =>
  [toReplica, fromReplica, streamId, seq, kind].join(" ");
