import { createHash } from "node:crypto";
import { lstat } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { makePrivateDirectory } from "../../files.ts";

/** The kernel's limit for a socket's path is 108 bytes with its end (104 on macOS). */
const MAX_PATH_BYTES = 100;

/**
 * A path for the session's socket: in the agent's own directory, or, when that path is too long for a socket, in a
 * directory below the temporary one that belongs to this user alone.
 * @throws Error when somebody else has made that directory
 */
export const socketPathFor = async (agentDirectory: string): Promise<string> => {
  const near = join(agentDirectory, "session.sock");
  if (Buffer.byteLength(near) <= MAX_PATH_BYTES) return near;
  const { uid } = userInfo();
  const directory = join(tmpdir(), `rootstock-${uid}`);
  await makePrivateDirectory(directory);
  const { uid: owner, mode } = await lstat(directory);
  if (uid !== -1 && (owner !== uid || (mode & 0o077) !== 0)) {
    throw new Error(`${directory} does not belong to this user alone`);
  }
  return join(directory, `${createHash("sha256").update(near).digest("hex").slice(0, 24)}.sock`);
};
