import { type Operation, requireAgent } from "./operation.ts";

const MAX_LINES = 100_000;

/**
 * `GET /api/v1/agents/{a}/logs` (spec/01 4.1): the end of the log, as much as the hub can read; with `tail` at most so many
 * lines (the original ignores it).
 */
export const readLogs: Operation = {
  method: "GET",
  path: "/api/v1/agents/:agent/logs",
  async run(call, context) {
    const record = await requireAgent(call, context);
    const text = await context.agents.runtime.logs(context.agents.place(record), call.maxBodyBytes);
    const wanted = Number(call.request.query.get("tail") ?? "");
    const lines = Number.isInteger(wanted) && wanted > 0 && wanted < MAX_LINES ? lastLines(text, wanted) : text;
    return { status: 200, text: lastBytes(lines, call.maxBodyBytes) };
  },
};

const lastLines = (text: string, count: number): string => {
  const lines = text.split("\n");
  const end = lines.at(-1) === "" ? lines.length - 1 : lines.length;
  return lines.slice(Math.max(0, end - count)).join("\n");
};

/** The end of a text, in whole lines where it has any. */
const lastBytes = (text: string, max: number): string => {
  const bytes = Buffer.from(text);
  if (bytes.byteLength <= max) return text;
  const end = bytes.subarray(bytes.byteLength - max).toString("utf8");
  // A character cut in two at the front becomes a replacement of three bytes: dropped with its line, or by itself.
  const newline = end.indexOf("\n");
  return newline >= 0 ? end.slice(newline + 1) : end.replace(/^\ufffd+/, "");
};
