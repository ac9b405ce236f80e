import type { Base } from "@rootstock/service";
import {
  type Db,
  listSealed,
  replaceSealed,
  SEALED_PURPOSES,
  type SealedPurpose,
  type SealedRow,
} from "@rootstock/store";
import { SecretBoxError } from "./errors.ts";
import type { SecretBox } from "./secretBox.ts";

const CHUNK_ROWS = 500;
/** Values that replicas store meanwhile are met by the next pass. */
const MOST_PASSES = 5;

/** What became of the stored values. */
export interface Resealed {
  /** Sealed anew, or still to be with `check`, by purpose. */
  readonly resealed: Readonly<Record<SealedPurpose, number>>;
  /** Rows that no configured key opens: left as they are. */
  readonly unreadable: readonly { readonly purpose: SealedPurpose; readonly rowId: string }[];
  /** Whether replicas went on sealing under another key for as long as it was looked. */
  readonly overtaken: boolean;
}

export interface ResealOptions {
  readonly db: Db;
  readonly box: Pick<SecretBox, "presentHead" | "open" | "seal">;
  readonly chunkRows?: number;
  /** Only counts what would be sealed anew. */
  readonly check?: boolean;
}

/**
 * Seals every stored value anew that is not sealed under the present key, so that former ones may go. In chunks, each a
 * short transaction; a value that was replaced meanwhile is left to whoever replaced it. Safe to run twice, at once and
 * beside running replicas.
 */
export const resealAll = async (base: Pick<Base, "log">, options: ResealOptions): Promise<Resealed> => {
  const resealed: Record<SealedPurpose, number> = {
    "runtime-broker-secret": 0,
    "agent-kept-value": 0,
    "agent-config-value": 0,
    "idempotency-answer": 0,
  };
  for (let pass = 1; ; pass += 1) {
    const unreadable: { purpose: SealedPurpose; rowId: string }[] = [];
    let met = 0;
    for (const purpose of SEALED_PURPOSES) {
      const done = await resealPurpose(base, options, purpose);
      resealed[purpose] += done.resealed;
      met += done.met;
      unreadable.push(...done.unreadable.map((rowId) => ({ purpose, rowId })));
    }
    const overtaken = met > unreadable.length;
    if (options.check) return { resealed, unreadable, overtaken: false };
    if (!overtaken || pass === MOST_PASSES) return { resealed, unreadable, overtaken };
  }
};

const resealPurpose = async (
  { log }: Pick<Base, "log">,
  { db, box, chunkRows = CHUNK_ROWS, check = false }: ResealOptions,
  purpose: SealedPurpose,
): Promise<{ readonly met: number; readonly resealed: number; readonly unreadable: readonly string[] }> => {
  const unreadable: string[] = [];
  let [met, resealed] = [0, 0];
  let after: SealedRow["key"] | undefined;
  do {
    const page = await listSealed(db, purpose, { present: box.presentHead(), after, limit: chunkRows });
    const anew: { key: SealedRow["key"]; from: Buffer; to: Buffer }[] = [];
    for (const { key, stale } of page) {
      if (!stale) continue;
      met += 1;
      const rowId = key.join(" ");
      try {
        const plain = await box.open(purpose, rowId, stale);
        anew.push({ key, from: stale, to: await box.seal(purpose, rowId, plain) });
      } catch (err) {
        if (!(err instanceof SecretBoxError)) throw err;
        log.warn({ err, purpose, rowId }, "stored value cannot be opened");
        unreadable.push(rowId);
      }
    }
    resealed += check ? anew.length : await replaceSealed(db, purpose, anew);
    after = page.length < chunkRows ? undefined : page.at(-1)?.key;
  } while (after);
  return { met, resealed, unreadable };
};
