import type { Random } from "@rootstock/service";

/** Every advisory lock key of the hub, in one place so that no two jobs share one. Replicas' own keys lie above 2^32. */
export const LOCK_KEYS = {
  migrate: 0x5c20_0001,
  replicaReaper: 0x5c20_0010,
  stuckDispatches: 0x5c20_0011,
  undeliveredMessages: 0x5c20_0012,
  offlineAgents: 0x5c20_0013,
  stalledAgents: 0x5c20_0014,
  offlineRuntimeBrokers: 0x5c20_0015,
  deletedAgents: 0x5c20_0016,
  seenNonces: 0x5c20_0017,
  joinTokens: 0x5c20_0018,
  idempotencyKeys: 0x5c20_0019,
  changeLog: 0x5c20_001a,
  oldPayloads: 0x5c20_001b,
  streamFrames: 0x5c20_001c,
  oldMessages: 0x5c20_001d,
  signIns: 0x5c20_001e,
  auditLog: 0x5c20_0021,
  authResets: 0x5c20_0030,
  rateBuckets: 0x5c20_0022,
  openStreams: 0x5c20_0023,
  unsealedConfigs: 0x5c20_0024,
} as const;

export type LockName = keyof typeof LOCK_KEYS;

/**
 * First halves of two-part keys, whose second half is a hash of what is locked. They share no space with the keys above
 * and are held until a transaction ends.
 */
export const LOCK_CLASSES = {
  /** Registering a project: two callers with one git remote make one project. */
  projectRegistration: 0x5c21_0001,
  /** Putting a group into another; taken by a trigger of migration 0020, which knows it as a number. */
  groupNesting: 0x5c21_0002,
} as const;

/** A key for a replica's own lock: random, positive, and above every key of {@link LOCK_KEYS}. */
export const newReplicaLockKey = (random: Random): bigint =>
  (random.bytes(8).readBigUInt64BE() & ((1n << 62n) - 1n)) | (1n << 62n);
