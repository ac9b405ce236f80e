/** Exit codes of every command; scripts may rely on them. */
export const EXIT = {
  ok: 0,
  /** The command was understood and could not be carried out. */
  failed: 1,
  /** Unknown or invalid flags, variables or arguments; nothing was done. */
  usage: 2,
  /** `rootstock migrate --check`: the database is not at this release's schema. */
  schemaDiffers: 3,
  /** Stopped by a second Ctrl-C, without waiting for a clean end. */
  interrupted: 130,
} as const;

/** The table at the end of every `--help`. */
export const EXIT_CODE_HELP = `
Exit codes:
  ${EXIT.ok}    done
  ${EXIT.failed}    failed; the reason is on standard error
  ${EXIT.usage}    unknown or invalid flags, variables or arguments; nothing was done
  ${EXIT.schemaDiffers}    migrate --check: the database is not at this release's schema
  ${EXIT.interrupted}  ended by a second Ctrl-C`;

/** A failure that the person at the terminal can understand as it is: printed without a stack. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: number;

  constructor(message: string, options: { readonly exitCode?: number; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.exitCode = options.exitCode ?? EXIT.failed;
  }
}

/** All that is wrong with flags, variables and arguments, listed at once. */
export class UsageError extends CliError {
  constructor(problems: readonly string[]) {
    super(problems.map((p) => `- ${p}`).join("\n"), { exitCode: EXIT.usage });
  }
}
