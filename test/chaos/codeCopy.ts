import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** Code that replicas are started from: this checkout, or a copy of it that is another version. */
export interface Code {
  readonly name: string;
  /** The folder with `packages/` and `migrations/`. */
  readonly root: string;
}

/** A copy in a folder of its own. */
export interface CodeCopy extends Code {
  /**
   * Puts `to` in the place of `from` in a file. Throws unless `from` is there exactly once: a change that changes nothing
   * would prove nothing.
   */
  replace(file: string, from: string, to: string): Promise<void>;
  add(file: string, text: string): Promise<void>;
  remove(): Promise<void>;
}

const run = promisify(execFile);

export const CHECKOUT: Code = { name: "this code", root: fileURLToPath(new URL("../..", import.meta.url)) };

/** What replicas need of the checkout. Below `node_modules` Node reads no TypeScript, so ours are linked to the copy. */
const linkModules = async (root: string): Promise<void> => {
  const from = join(CHECKOUT.root, "node_modules");
  const to = join(root, "node_modules");
  await mkdir(join(to, "@rootstock"), { recursive: true });
  const names = (await readdir(from)).filter((name) => name !== "@rootstock" && !name.startsWith(".package"));
  await Promise.all(names.map((name) => symlink(join(from, name), join(to, name))));
  const packages = await readdir(join(root, "packages"));
  await Promise.all(packages.map((name) => symlink(join(root, "packages", name), join(to, "@rootstock", name))));
};

const copyAt = (name: string, root: string): CodeCopy => ({
  name,
  root,
  replace: async (file, from, to) => {
    const text = await readFile(join(root, file), "utf8");
    const found = text.split(from).length - 1;
    if (found !== 1) throw new Error(`${name}: found ${found} times, not once, in ${file}:\n${from}`);
    // A function, because in a text "$&" would stand for what was found.
    await writeFile(
      join(root, file),
      text.replace(from, () => to),
    );
  },
  add: (file, text) => writeFile(join(root, file), text),
  remove: () => rm(root, { recursive: true, force: true }),
});

const emptyFolder = (): Promise<string> => mkdtemp(join(tmpdir(), "rootstock-code-"));

/** A copy of the checkout as it is now. */
export const copyCheckout = async (name: string): Promise<CodeCopy> => {
  const root = await emptyFolder();
  const runs = (path: string): boolean => basename(path) !== "node_modules" && !path.endsWith(".test.ts");
  for (const folder of ["packages", "migrations"])
    await cp(join(CHECKOUT.root, folder), join(root, folder), { recursive: true, filter: runs });
  await cp(join(CHECKOUT.root, "package.json"), join(root, "package.json"));
  await linkModules(root);
  return copyAt(name, root);
};

/** The code of a commit. Throws where there is no git, or no such commit. */
export const copyCommit = async (commit: string): Promise<CodeCopy> => {
  const root = await emptyFolder();
  const archive = join(root, "code.tar");
  const paths = ["packages", "migrations", "package.json"];
  await run("git", ["-C", CHECKOUT.root, "archive", "--output", archive, commit, ...paths]);
  await run("tar", ["-xf", archive, "-C", root]);
  await rm(archive);
  await linkModules(root);
  const { stdout } = await run("git", ["-C", CHECKOUT.root, "rev-parse", "--short", commit]);
  return copyAt(`the code of ${stdout.trim()}`, root);
};

const git = async (...args: string[]): Promise<string | undefined> => {
  try {
    return (await run("git", ["-C", CHECKOUT.root, ...args])).stdout.trim() || undefined;
  } catch {
    return undefined;
  }
};

/**
 * The tag of the newest release before the checkout; before there was any, the last commit that knew one migration less.
 * Undefined without git, or without its history.
 */
export const releaseBefore = async (): Promise<string | undefined> => {
  const tag = await git("describe", "--tags", "--abbrev=0", "HEAD^");
  if (tag !== undefined) return tag;
  const newest = (await readdir(join(CHECKOUT.root, "migrations"))).sort().at(-1);
  const added = await git("log", "-1", "--diff-filter=A", "--format=%H", "--", `migrations/${newest}`);
  return added && git("rev-parse", "--verify", `${added}^`);
};

/**
 * The next release as this one has to bear it: the same code with one more migration, which is compatible and touches
 * every table that both write. Seen from it, this checkout is the older version.
 */
export const nextRelease = async (): Promise<CodeCopy> => {
  const copy = await copyCheckout("the next release");
  const numbers = (await readdir(join(copy.root, "migrations"))).map((f) => Number(/^\d+/.exec(f)?.[0] ?? 0));
  const next = String(Math.max(...numbers) + 1).padStart(4, "0");
  const columns = ["agents", "messages", "broker_dispatch", "runtime_brokers", "hub_replicas", "change_log"]
    .map((table) => `alter table ${table} add column next_release text default 'new';`)
    .join("\n");
  await copy.add(join("migrations", `${next}_next_release.sql`), `-- compatible: yes\n${columns}\n`);
  return copy;
};
