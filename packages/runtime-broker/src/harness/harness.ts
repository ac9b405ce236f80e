import { z } from "zod";

/** What runs inside an agent: a command of the configuration, chosen by the agent's harness configuration name. */
export const harnessSchema = z.strictObject({
  /** Program, found on the agent's PATH. */
  command: z.string().min(1),
  args: z.array(z.string()).default([]),
  /** Appended when the agent starts with a task; `{task}` stands for its text. */
  taskArgs: z.array(z.string()).default(["{task}"]),
  /** Appended when a resumable harness is resumed. */
  resumeArgs: z.array(z.string()).default([]),
  /** Whether it can take up its former conversation. One that cannot is started afresh on resume. */
  resumable: z.boolean().default(false),
  env: z.record(z.string(), z.string()).default({}),
  /** Keys that must have a value before the agent starts; missing ones are asked from the person (spec/01 4.4). */
  requiredEnv: z.array(z.string().min(1)).default([]),
  /** Variables of the runtime broker's own environment that the agent may see. */
  passEnv: z.array(z.string().min(1)).default([]),
  /** Container image; for the `container` runtime only. */
  image: z.string().min(1).optional(),
  /** What is typed before a message that interrupts. */
  interruptKey: z.enum(["C-c", "Escape"]).default("C-c"),
});
export type Harness = z.infer<typeof harnessSchema>;

export const harnessesSchema = z.record(z.string().regex(/^[a-z0-9][a-z0-9._-]*$/), harnessSchema);

/** The harness that is always there and the one for agents that name none. */
export const SHELL_HARNESS = "shell";

/**
 * A harmless program that needs nothing but a POSIX shell: it prints what it is told and never executes it. It asks for
 * bracketed paste, so that a message of several lines is one message, and turns line editing off, because a terminal in
 * line mode cuts lines at 4,095 bytes. Signals by key are off too: Ctrl-C is then a byte like others; and echo is, or the log would show everything twice.
 */
const SHELL_SCRIPT = `
stty -icanon -isig -echo min 1 time 0 2>/dev/null
esc=$(printf '\\033'); intr=$(printf '\\003')
begin="$esc[200~"; end="$esc[201~"; pasting=; text=; found=
say() { printf 'shell> received: %s\\n' "$1"; }
printf '\\033[?2004hshell> ready\\n'
[ $# -gt 0 ] && [ -n "$1" ] && say "$1"
while IFS= read -r line; do
  case $line in *"$intr"*) line=\${line##*"$intr"}; printf 'shell> interrupted\\n';; esac
  case $line in *"$esc["20[01]"~"*) ;; *"$esc"*) line=\${line##*"$esc"}; printf 'shell> interrupted\\n';; esac
  case $line in *"$begin"*) line=\${line#*"$begin"}; pasting=1; text=; found=;; esac
  if [ -z "$pasting" ]; then [ -n "$line" ] && say "$line"; continue; fi
  last=; case $line in *"$end"*) line=\${line%%"$end"*}; last=1;; esac
  case $line in '  "msg": "'*) found=1; text=\${line#'  "msg": "'}; text=\${text%,}; text=\${text%'"'};;
    *) [ -z "$found" ] && text=$text\${text:+ }$line;; esac
  if [ -n "$last" ]; then pasting=; say "$text"; fi
done
`;

/** The built-in harness `shell`. */
export const shellHarness: Harness = harnessSchema.parse({
  command: "sh",
  args: ["-c", SHELL_SCRIPT, SHELL_HARNESS],
  taskArgs: ["{task}"],
});

/** The command line of a harness for one start. */
export const harnessCommand = (
  harness: Harness,
  start: { readonly task: string; readonly resume: boolean },
): string[] => {
  const resume = start.resume && harness.resumable ? harness.resumeArgs : [];
  const task = start.task === "" ? [] : harness.taskArgs.map((arg) => arg.replaceAll("{task}", () => start.task));
  return [harness.command, ...harness.args, ...resume, ...task];
};
