import { randomBytes, randomInt, randomUUID } from "node:crypto";

/** The only door to randomness, so that a test can choose ids and jitter. */
export interface Random {
  /** A new version 4 UUID, lower case. */
  uuid(): string;
  /**
   * A new version 7 UUID, lower case, of this moment (milliseconds since the Unix epoch): what is made later sorts later,
   * so that an index takes it at its end. The order of these ids means nothing else: replicas' clocks differ.
   */
  sortableUuid(now: number): string;
  /** `n` unpredictable bytes. */
  bytes(n: number): Buffer;
  /** A fraction in [0, 1), for jitter only. */
  fraction(): number;
}

/** The operating system's randomness. */
export const systemRandom: Random = {
  uuid: () => randomUUID(),
  sortableUuid: (now) => {
    const time = Math.floor(now).toString(16).padStart(12, "0");
    // A version 4 UUID has its random bits in the same places.
    return `${time.slice(0, 8)}-${time.slice(8, 12)}-7${randomUUID().slice(15)}`;
  },
  bytes: (n) => randomBytes(n),
  fraction: () => randomInt(0, 2 ** 32) / 2 ** 32,
};
