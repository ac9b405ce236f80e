import type { Random } from "@rootstock/service";
import { FileKeys } from "./fileKeys.ts";
import { type KeyManagement, KeyManagements } from "./keyManagement.ts";
import type { RootSecrets } from "./rootSecrets.ts";
import { SecretKeys } from "./secretKeys.ts";

/** Who keeps keys that wrap data keys. */
export type KeyKeeper = { readonly kind: "secret" } | { readonly kind: "file"; readonly path: string };

/** `ROOTSTOCK_KMS` names no keeper that there is. */
export class KeyKeepersError extends Error {
  override readonly name = "KeyKeepersError";
}

/**
 * Reads an ordered list, separated by commas, of `secret` and `file:<path>`. The shared secrets are always among them,
 * last unless named: what they wrapped before there was another keeper stays readable. Throws {@link KeyKeepersError}.
 */
export const parseKeyKeepers = (text: string): readonly KeyKeeper[] => {
  const keepers = text.split(",").map((entry): KeyKeeper => {
    const name = entry.trim();
    if (name === "secret") return { kind: "secret" };
    const path = /^file:(.+)$/.exec(name)?.[1];
    if (path === undefined) throw new KeyKeepersError("want a list of: secret, file:<path>");
    return { kind: "file", path };
  });
  return keepers.some((k) => k.kind === "secret") ? keepers : [...keepers, { kind: "secret" }];
};

/** The keepers in their order: the first wraps, all unwrap. Throws `KeyFileError`. */
export const keyManagement = (
  config: { readonly secrets: RootSecrets; readonly keyKeepers: readonly KeyKeeper[] },
  random: Random,
): KeyManagement => {
  const [first, ...more] = config.keyKeepers.map((keeper) =>
    keeper.kind === "file" ? new FileKeys(keeper.path, random) : new SecretKeys(config.secrets, random),
  );
  return new KeyManagements(first ?? new SecretKeys(config.secrets, random), ...more);
};
