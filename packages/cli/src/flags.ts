import { type Command, Option } from "commander";
import { UsageError } from "./exitCodes.ts";

/** The process environment, or one made for a test. */
export type Env = Readonly<Record<string, string | undefined>>;

/**
 * A setting with two spellings: a flag and an environment variable. The flag wins. Whoever reads the settings reads
 * variables only, so there is one place that parses and one list of problems.
 */
export interface Setting {
  /** `--name <value>`, or `--name` for a switch, as commander writes it. */
  readonly flag: string;
  readonly env: string;
  readonly description: string;
  /** Shown in the help; the reader of the variable applies it. */
  readonly defaultText?: string;
  /** What the variable becomes when a switch is given; `1` unless said otherwise. */
  readonly switchValue?: string;
  /** Kept out of the help's current values and of process listings' advice: better given as a variable. */
  readonly secret?: boolean;
}

const helpText = (setting: Setting): string => {
  const notes = [`env: ${setting.env}`];
  if (setting.defaultText) notes.push(`default: ${setting.defaultText}`);
  if (setting.secret) notes.push("a secret: prefer the variable");
  return `${setting.description} (${notes.join("; ")})`;
};

/** Declares the flags of `settings`. Commander refuses other flags, the first of them only. */
export const addSettings = (command: Command, settings: readonly Setting[]): Command => {
  for (const setting of settings) command.addOption(new Option(setting.flag, helpText(setting)));
  return command;
};

/** The same for a command that is all settings: unknown flags are kept for {@link settingsEnv}, which lists them all. */
export const addConfiguration = (command: Command, settings: readonly Setting[]): Command =>
  addSettings(command, settings).allowUnknownOption().allowExcessArguments();

/** Arguments that no setting explains. The word after an unknown flag is taken for its value. */
const unexplained = (args: readonly string[]): string[] => {
  const problems: string[] = [];
  let afterFlag = false;
  for (const arg of args) {
    const isFlag = arg.startsWith("-");
    if (isFlag) problems.push(`unknown option ${arg.split("=", 1)[0]}`);
    else if (!afterFlag) problems.push(`unexpected argument ${arg}`);
    afterFlag = isFlag && !arg.includes("=");
  }
  return problems;
};

/** Variables of ours that nothing reads: mistyped, or of another release. */
const unknownVariables = (env: Env, known: ReadonlySet<string>): string[] =>
  Object.keys(env)
    .filter((name) => name.startsWith("ROOTSTOCK_") && !known.has(name))
    .map((name) => `unknown variable ${name}`);

/**
 * The environment with the given flags laid over it, and what is wrong with the flags and names so far. `args` is what
 * commander could not explain.
 */
export const settingsEnv = (
  command: Command,
  settings: readonly Setting[],
  env: Env,
  known: ReadonlySet<string>,
  args: readonly string[] = command.args,
): { readonly env: Record<string, string | undefined>; readonly problems: readonly string[] } => {
  const merged: Record<string, string | undefined> = { ...env };
  for (const setting of settings) {
    const value: unknown = command.getOptionValue(new Option(setting.flag).attributeName());
    if (typeof value === "string") merged[setting.env] = value;
    // `--no-x` makes commander default `x` to true: only a false says that the flag was given.
    const isNegated = setting.flag.startsWith("--no-");
    if (value === !isNegated) merged[setting.env] = setting.switchValue ?? "1";
  }
  return { env: merged, problems: [...unexplained(args), ...unknownVariables(env, known)] };
};

/** The problems that an error lists, in a property or one a line below a heading. */
const problemsOf = (err: unknown): string[] => {
  const listed: unknown = typeof err === "object" && err !== null ? Reflect.get(err, "problems") : undefined;
  if (Array.isArray(listed)) return listed.map(String);
  return (err instanceof Error ? err.message : String(err))
    .split("\n")
    .map((line) => line.replace(/^\s*[-*]\s*/, "").trim())
    .filter((line) => line !== "");
};

/**
 * Runs `load` on the settings and reports its problems together with those of flags and names.
 * @throws UsageError listing every problem
 */
export const loadSettings = <T>(
  merged: { readonly env: Record<string, string | undefined>; readonly problems: readonly string[] },
  load: (env: Record<string, string | undefined>) => T,
): T => {
  const problems = [...merged.problems];
  try {
    const config = load(merged.env);
    if (problems.length === 0) return config;
  } catch (err) {
    problems.push(...problemsOf(err));
  }
  throw new UsageError(problems);
};
