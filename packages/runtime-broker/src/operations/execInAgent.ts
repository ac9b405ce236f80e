import { z } from "zod";
import { parseBody } from "../tunnel/request.ts";
import { type Operation, requireAgent } from "./operation.ts";

const DEFAULT_TIMEOUT_S = 60;
/** What the hub lets through. */
const MAX_TIMEOUT_S = 3_600;

const body = z.object({
  command: z.array(z.string()).min(1, "is required"),
  timeout: z.number().min(0).max(MAX_TIMEOUT_S).nullish(),
});

/** Stands where the rest of the output would. */
const CUT = "\n[output cut: the hub reads no more of it]";
/** For the exit code, and what is around it. */
const ENVELOPE_BYTES = 64;

/**
 * `POST /api/v1/agents/{a}/exec` (spec/01 4.1): runs a command beside the agent, with its environment. A command that fails
 * is a result, with its exit code; the original makes a 500 of it. So is one that prints more than the hub can read.
 */
export const execInAgent: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/exec",
  async run(call, context) {
    const { command, timeout } = parseBody(call.request, body);
    const record = await requireAgent(call, context);
    const timeoutMs = (timeout || DEFAULT_TIMEOUT_S) * 1000;
    const result = await context.agents.runtime.exec(context.agents.place(record), command, timeoutMs);
    const output = fitting(result.output, call.maxBodyBytes - ENVELOPE_BYTES);
    return { status: 200, json: { output, exitCode: result.exitCode } };
  },
};

const jsonBytes = (text: string): number => Buffer.byteLength(JSON.stringify(text));

/** As much of a text as has `max` bytes in JSON, where one that is no letter takes up to six. */
const fitting = (text: string, max: number): string => {
  if (jsonBytes(text) <= max) return text;
  let [fits, exceeds] = [0, text.length];
  while (exceeds - fits > 1) {
    const middle = Math.floor((fits + exceeds) / 2);
    if (jsonBytes(text.slice(0, middle) + CUT) <= max) fits = middle;
    else exceeds = middle;
  }
  return text.slice(0, fits).toWellFormed() + CUT;
};
