import { chmod, mkdtemp, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Folders in memory, where a system has them. */
const IN_MEMORY = "/dev/shm";
/** Several servers of one run use below one of these at a time, in bytes: the rest is for whatever else runs. */
const ROOM = 6e9;

/**
 * A new folder for what a test writes much of and keeps nothing of, which other users may enter: in memory, if that will
 * do and there is plenty, else where temporary files lie. A clone of the schema is some 900 files; on a disk, making and
 * deleting them takes half the time of a whole test run.
 */
export const scratchFolder = async (prefix: string, { inMemory }: { readonly inMemory: boolean }): Promise<string> => {
  const folder = await mkdtemp(join(inMemory && (await hasRoom()) ? IN_MEMORY : tmpdir(), prefix));
  // A server runs as another user when we are root, and must reach its own folder.
  await chmod(folder, 0o755);
  return folder;
};

const hasRoom = async (): Promise<boolean> => {
  try {
    const { bavail, bsize } = await statfs(IN_MEMORY);
    return bavail * bsize > ROOM && process.availableMemory() > ROOM;
  } catch {
    return false;
  }
};
