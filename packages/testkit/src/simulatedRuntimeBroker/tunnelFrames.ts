import type { ReceivedRequest, SimulatedReply } from "../simulatedAgents.ts";

/** A `request` frame as handlers see it. */
export const toRequest = (frame: Record<string, unknown>, sessionId: string): ReceivedRequest => {
  const [path = "", inPath = ""] = String(frame.path).split("?");
  const rawQuery = typeof frame.query === "string" && frame.query !== "" ? frame.query : inPath;
  const body = Buffer.from(typeof frame.body === "string" ? frame.body : "", "base64");
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(frame.headers ?? {})) headers[name.toLowerCase()] = String(value);
  return {
    requestId: String(frame.requestId),
    method: String(frame.method),
    path,
    rawQuery,
    query: new URLSearchParams(rawQuery),
    headers,
    body,
    json: parsed(body),
    sessionId,
  };
};

/** The `response` frame. Headers and body are absent for an empty answer, as the original's are (spec/01 3.3). */
export const toResponseFrame = (requestId: string, reply: SimulatedReply): object => {
  if (reply.body === undefined) return { type: "response", requestId, statusCode: reply.status };
  const { body } = reply;
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  return {
    type: "response",
    requestId,
    statusCode: reply.status,
    headers: reply.headers ?? { "Content-Type": "application/json" },
    body: bytes.toString("base64"),
  };
};

const parsed = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
};
