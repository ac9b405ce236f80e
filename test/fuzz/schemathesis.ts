import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** schemathesis (https://schemathesis.readthedocs.io), in a virtual environment of Python that is made where there is none. */

const PACKAGE = "schemathesis==4.32.5";

/** What is held against the document. Whether bad input is refused is for tests of their own: clients may be lenient. */
const CHECKS = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_headers_conformance",
  "response_schema_conformance",
];

/** Bad input comes first, at every edge of every schema; then what is valid, which gets to what stands behind. */
const CONFIG = `[phases.fuzzing.generation]
mode = "positive"
`;

/** The program's path; makes the environment in `folder` if it is not there. Throws where Python cannot. */
export const installed = async (folder: string): Promise<string> => {
  const program = join(folder, "bin", "schemathesis");
  if (existsSync(program)) return program;
  await run("python3", ["-m", "venv", folder]);
  await run(join(folder, "bin", "python"), ["-m", "pip", "install", "--quiet", PACKAGE]);
  return program;
};

export interface FuzzRun {
  readonly program: string;
  /** An empty folder for its files. */
  readonly folder: string;
  readonly document: object;
  readonly url: string;
  readonly seed: number;
  /** Per operation and phase. */
  readonly examples: number;
}

/** One run. Resolves with what it printed, and whether it has found nothing. */
export const fuzz = async (options: FuzzRun): Promise<{ readonly clean: boolean; readonly output: string }> => {
  const { program, folder, document, url, seed, examples } = options;
  const [file, config] = [join(folder, "openapi.json"), join(folder, "schemathesis.toml")];
  writeFileSync(file, JSON.stringify(document));
  writeFileSync(config, CONFIG);
  const { code, output } = await capture(folder, program, [
    ...["--config-file", config, "run", file, "--url", url, "--no-color", "--no-shrink", "--continue-on-failure"],
    ...["--phases", "coverage,fuzzing", "--max-examples", String(examples), "--seed", String(seed)],
    ...["--checks", CHECKS.join(","), "--workers", "2", "--suppress-health-check", "all", "--warnings", "off"],
    ...["--generation-database", "none", "--request-timeout", "60", "--generation-with-security-parameters", "false"],
  ]);
  return { clean: code === 0, output };
};

const run = async (program: string, args: readonly string[]): Promise<void> => {
  const { code, output } = await capture(tmpdir(), program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}:\n${output}`);
};

const capture = (
  /** Where it leaves what it keeps for itself. */
  cwd: string,
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly output: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output: Buffer.concat(chunks).toString("utf8") }));
  });
