import { randomBytes, randomInt, randomUUID } from "node:crypto";

/** The only door to randomness, so that a test can choose ids and jitter. */
export interface Random {
  /** A new version 4 UUID, lower case. */
  uuid(): string;
  /** `n` unpredictable bytes. */
  bytes(n: number): Buffer;
  /** A fraction in [0, 1), for jitter only. */
  fraction(): number;
}

/** The operating system's randomness. */
export const systemRandom: Random = {
  uuid: () => randomUUID(),
  bytes: (n) => randomBytes(n),
  fraction: () => randomInt(0, 2 ** 32) / 2 ** 32,
};
