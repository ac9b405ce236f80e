import type { Clock } from "@rootstock/service";
import { z } from "zod";
import { type CommandParams, runCommand } from "../runCommand.ts";
import { type ExecResult, RuntimeFailure } from "../runtime.ts";

/** A container as `ps` lists it, from either tool. */
export interface ListedContainer {
  readonly id: string;
  readonly status: string;
  readonly labels: Readonly<Record<string, string>>;
}

const labelsOf = (labels: string | Record<string, string> | null | undefined): Record<string, string> => {
  if (typeof labels !== "string") return labels ?? {};
  const pairs = labels.split(",").flatMap((pair) => {
    const at = pair.indexOf("=");
    return at > 0 ? [[pair.slice(0, at), pair.slice(at + 1)]] : [];
  });
  return Object.fromEntries(pairs);
};

const listedSchema = z
  .object({
    Id: z.string().optional(),
    ID: z.string().optional(),
    Status: z.string().optional(),
    State: z.string().optional(),
    Labels: z.union([z.string(), z.record(z.string(), z.string())]).nullish(),
  })
  .transform((c) => ({ id: c.Id ?? c.ID ?? "", status: c.Status || c.State || "", labels: labelsOf(c.Labels) }));

/** What `ps --format json` (podman: one array) or `--format '{{json .}}'` (docker: one object a line) has printed. */
export const parseContainers = (output: string): ListedContainer[] => {
  const text = output.trim();
  if (text === "" || text === "null") return [];
  const values: unknown[] = text.startsWith("[")
    ? z.array(z.unknown()).parse(JSON.parse(text))
    : text.split("\n").map((line) => JSON.parse(line));
  return values.map((value) => listedSchema.parse(value)).filter((container) => container.id !== "");
};

/** The docker or podman program, called directly and never through a shell. */
export class ContainerCli {
  readonly command: "docker" | "podman";
  readonly #clock: Clock;
  readonly #hostEnv: Readonly<Record<string, string>>;

  constructor(clock: Clock, command: "docker" | "podman", hostEnv: Readonly<Record<string, string>>) {
    this.#clock = clock;
    this.command = command;
    this.#hostEnv = hostEnv;
  }

  /** Runs it; a result with an exit code other than 0 is a result too. @throws RuntimeFailure when it cannot run or takes too long */
  async try(
    args: readonly string[],
    options: Partial<Pick<CommandParams, "input" | "env" | "timeoutMs">> = {},
  ): Promise<ExecResult> {
    try {
      return await runCommand(this.#clock, {
        command: [this.command, ...args],
        env: { ...this.#hostEnv, ...options.env },
        timeoutMs: options.timeoutMs ?? 60_000,
        ...(options.input !== undefined && { input: options.input }),
      });
    } catch (err) {
      throw new RuntimeFailure(`${this.command} ${args[0]}: ${err instanceof Error ? err.message : String(err)}`, {
        cause: err,
      });
    }
  }

  /** Runs it and returns what it printed. @throws RuntimeFailure with that when it fails */
  async run(
    args: readonly string[],
    options: Partial<Pick<CommandParams, "input" | "env" | "timeoutMs">> = {},
  ): Promise<string> {
    const { output, exitCode } = await this.try(args, options);
    if (exitCode === 0) return output;
    throw new RuntimeFailure(`${this.command} ${args[0]} failed (${exitCode}): ${output.trim().slice(-2_000)}`);
  }

  /** Every container with this label, stopped ones too. */
  async list(label: string): Promise<ListedContainer[]> {
    const format = this.command === "podman" ? "json" : "{{json .}}";
    const output = await this.run(["ps", "-a", "--no-trunc", "--filter", `label=${label}`, "--format", format]);
    try {
      return parseContainers(output).filter((container) => Object.hasOwn(container.labels, label));
    } catch (err) {
      throw new RuntimeFailure(`${this.command} ps printed something else than a list`, { cause: err });
    }
  }
}
