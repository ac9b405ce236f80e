import { chmodSync, readFileSync, renameSync, writeFileSync } from "node:fs";

const isMissing = (err: unknown): boolean =>
  typeof err === "object" && err !== null && "code" in err && err.code === "ENOENT";

/** The text of a file, or undefined when there is none. */
export const readIfPresent = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8");
  } catch (err) {
    if (isMissing(err)) return undefined;
    throw err;
  }
};

/** Writes a file that only its owner may read, in one step: a crash leaves the old text or the new one, never half. */
export const writePrivate = (path: string, text: string): void => {
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, text, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
};

/** The parsed JSON of a file; undefined when it is missing or not JSON. */
export const readJson = (path: string): unknown => {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
