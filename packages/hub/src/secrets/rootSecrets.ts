/**
 * The secrets that all replicas share, newest first: keys of the first sign and seal, keys of all verify and open. So a
 * secret is replaced without anybody noticing: the new one is added behind, then moved to the front, then the former goes.
 */
export type RootSecrets = readonly [first: string, ...former: string[]];

const MIN_BYTES = 32;

/** `ROOTSTOCK_SECRET` is unusable; `problems` says why, and quotes nothing of it. */
export class RootSecretsError extends Error {
  override readonly name = "RootSecretsError";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join("; "));
    this.problems = problems;
  }
}

/**
 * Reads an ordered list: separated by commas, or a JSON list of texts for secrets that hold a comma themselves. A secret
 * counts to the byte, so one that stands alone is never trimmed; around those of a list white space is refused, because
 * nobody could tell whether it is meant. Throws {@link RootSecretsError}.
 */
export const parseRootSecrets = (text: string): RootSecrets => {
  const json = text.startsWith("[");
  const [first, ...former] = json ? jsonList(text) : text.split(",");
  if (first === undefined) throw new RootSecretsError(["the list is empty"]);
  const secrets: RootSecrets = [first, ...former];
  const alone = secrets.length === 1;
  const problems = secrets.flatMap((secret, i) => {
    const which = alone ? "" : `secret ${i + 1} of ${secrets.length} `;
    if (Buffer.byteLength(secret) < MIN_BYTES) return [`${which}must be at least ${MIN_BYTES} bytes`];
    if (!json && !alone && secret.trim() !== secret)
      return [`${which}has white space at an end: write the list as JSON if it is part of the secret`];
    return secrets.indexOf(secret) < i ? [`${which}is the same as an earlier one`] : [];
  });
  if (problems.length > 0) throw new RootSecretsError(problems);
  return secrets;
};

const jsonList = (text: string): string[] => {
  const refused = () => new RootSecretsError(["begins with [ and is no JSON list of texts"]);
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    // Without its cause: that quotes the text.
    throw refused();
  }
  if (!Array.isArray(list) || !list.every((item): item is string => typeof item === "string")) throw refused();
  return list;
};
