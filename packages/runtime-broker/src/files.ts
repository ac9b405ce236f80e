import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Files that hold state or secrets: readable by this user only, and either the old or the new content after a crash. */

const PRIVATE_FILE = 0o600;
const PRIVATE_DIRECTORY = 0o700;

/** Makes a directory that only this user may enter. */
export const makePrivateDirectory = async (path: string): Promise<void> => {
  await mkdir(path, { recursive: true, mode: PRIVATE_DIRECTORY });
};

/** Flushes a directory's entries, without which a rename may be undone by a power failure. */
const syncDirectory = async (path: string): Promise<void> => {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

/** Writes `content` so that a crash at any moment leaves the old file or the new one, never a part. */
export const writeDurably = async (path: string, content: string | Buffer): Promise<void> => {
  const temporary = `${path}.tmp`;
  const handle = await open(temporary, "w", PRIVATE_FILE);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
};

const isMissing = (err: unknown): boolean =>
  typeof err === "object" && err !== null && "code" in err && err.code === "ENOENT";

/** The file's text, undefined when there is no such file. */
export const readIfPresent = async (path: string): Promise<string | undefined> => {
  try {
    return await readFile(path, "utf8");
  } catch (err) {
    if (isMissing(err)) return undefined;
    throw err;
  }
};

/** Parsed JSON, undefined when the file is missing or is not JSON. */
export const readJson = async (path: string): Promise<unknown> => {
  const text = await readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** Removes a file or a whole directory; nothing there is fine. */
export const removeAll = (path: string): Promise<void> => rm(path, { recursive: true, force: true, maxRetries: 3 });

/** Writes the agent's token where the tools inside the agent look for it: `<home>/.scion/scion-token` (spec/06 2.1). */
export const writeTokenFile = async (home: string, token: string): Promise<void> => {
  const directory = join(home, ".scion");
  await makePrivateDirectory(directory);
  await writeDurably(join(directory, "scion-token"), token);
};

/** The token that `writeTokenFile` left, or that a tool inside the agent has refreshed since. */
export const readTokenFile = async (home: string): Promise<string | undefined> => {
  const text = await readIfPresent(join(home, ".scion", "scion-token"));
  return text?.trim() || undefined;
};
