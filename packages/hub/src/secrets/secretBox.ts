import type { Clock, Random } from "@rootstock/service";
import { decrypt, encrypt } from "./aesGcm.ts";
import { DataKeys } from "./dataKeys.ts";
import { SecretBoxError } from "./errors.ts";
import { FORMER_VERSION, FormerFormat } from "./formerFormat.ts";
import type { KeyManagement } from "./keyManagement.ts";
import type { BoxPurpose } from "./keys.ts";
import type { RootSecrets } from "./rootSecrets.ts";
import { decodeEnvelope, ENVELOPE_VERSION, encodeEnvelope, envelopeHead } from "./sealedFormat.ts";
import { SecretKeys } from "./secretKeys.ts";

/** The first release that reads envelopes, and replicas' tokens with a public key's signature. */
export const ENVELOPES_SINCE = "0.2.0";

export interface SecretBoxOptions {
  readonly secrets: RootSecrets;
  readonly clock: Clock;
  readonly random: Random;
  /** Who wraps data keys; keys of the shared secrets unless said otherwise. */
  readonly keys?: KeyManagement;
  /** Whether replicas may be there that cannot read envelopes; none unless said otherwise. */
  readonly olderReplicas?: () => boolean;
}

const contextOf = (purpose: BoxPurpose, rowId: string): string => `${ENVELOPE_VERSION}\u0000${purpose}\u0000${rowId}`;

/**
 * Encrypts what is secret at rest: AES-256-GCM under a data key, which stands beside the value, wrapped. Purpose and row
 * are authenticated along with the value: a sealed value copied into another row does not open there.
 */
export class SecretBox {
  readonly #options: SecretBoxOptions;
  readonly #keys: KeyManagement;
  readonly #dataKeys: DataKeys;
  readonly #former: FormerFormat;

  constructor(options: SecretBoxOptions) {
    this.#options = options;
    this.#keys = options.keys ?? new SecretKeys(options.secrets, options.random);
    this.#dataKeys = new DataKeys(this.#keys, options);
    this.#former = new FormerFormat(options.secrets);
  }

  /** The sealed form of `plain` for the row `rowId`; different at every call. */
  async seal(purpose: BoxPurpose, rowId: string, plain: Uint8Array): Promise<Buffer> {
    const { random, olderReplicas } = this.#options;
    if (olderReplicas?.()) return this.#former.seal(random, purpose, rowId, plain);
    const { key, wrapped } = await this.#dataKeys.current(purpose);
    return encodeEnvelope(wrapped, encrypt(key, random, contextOf(purpose, rowId), plain));
  }

  /** What was sealed for this purpose and row. Throws {@link SecretBoxError}. */
  async open(purpose: BoxPurpose, rowId: string, sealed: Buffer): Promise<Buffer> {
    if (sealed[0] === FORMER_VERSION) return this.#former.open(purpose, rowId, sealed);
    if (sealed[0] !== ENVELOPE_VERSION) throw new SecretBoxError("sealed value of an unknown version");
    const { wrapped, encrypted } = decodeEnvelope(sealed);
    return decrypt(await this.#dataKeys.unwrapped(wrapped, purpose), contextOf(purpose, rowId), encrypted);
  }

  /** How every value begins that is sealed as it should be now; any other is to be sealed anew. */
  presentHead(): Buffer {
    return envelopeHead(this.#keys.wrapsWith);
  }
}
