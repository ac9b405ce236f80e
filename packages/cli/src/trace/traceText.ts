import type { Trace, TraceHop, TracePlace } from "@rootstock/protocol";
import { table } from "../table.ts";

/** A trace for a person to read. */
export const traceText = (trace: Trace): string => {
  const began = trace.hops[0]?.at;
  const rows = trace.hops.map((hop) => [
    hop.at ?? "",
    hop.at && began ? after(Date.parse(hop.at) - Date.parse(began)) : "",
    hop.event.replaceAll("_", " "),
    place(hop.replica),
    place(hop.runtimeBroker),
    hop.attempt === undefined ? "" : String(hop.attempt),
    hop.session ?? "",
    remark(hop),
  ]);
  const head = ["TIME", "AFTER", "EVENT", "REPLICA", "RUNTIME BROKER", "ATTEMPT", "SESSION", "REMARK"];
  return [
    title(trace),
    ...(trace.error ? [`error: ${trace.error}`] : []),
    ...(trace.traceparent ? [`traceparent: ${trace.traceparent}`] : []),
    "",
    ...(trace.hopsOmitted ? ["earlier attempts are left out"] : []),
    table(head, rows),
    ...(trace.waiting
      ? ["", `waiting since ${trace.waiting.since}:`, ...trace.waiting.reasons.map((reason) => `  - ${reason}`)]
      : []),
    ...(trace.next.length > 0
      ? [
          "",
          "next:",
          ...trace.next.map((n) => `  - ${n.event.replaceAll("_", " ")}${n.at ? ` at ${n.at}` : ""}: ${n.when}`),
        ]
      : []),
  ].join("\n");
};

const title = (trace: Trace): string => {
  const what = trace.kind === "message" ? `message ${trace.id}` : `${trace.op ?? "operation"} ${trace.id}`;
  const agent = trace.agent ? `, agent ${trace.agent.slug} (${trace.agent.id})` : "";
  const of = trace.maxAttempts === undefined ? "" : ` of ${trace.maxAttempts}`;
  return `${what}${agent}: ${trace.state.replaceAll("_", " ")}, attempts ${trace.attempts}${of}`;
};

const place = (p: TracePlace | undefined): string => (p ? (p.name ? `${p.name} (${p.id})` : p.id) : "");

const remark = (hop: TraceHop): string =>
  [
    hop.waitedMs === undefined ? "" : `waited ${duration(hop.waitedMs)}${hop.waitedFor ? `: ${hop.waitedFor}` : ""}`,
    hop.reason ?? "",
    hop.times === undefined ? "" : `${hop.times} times, last at ${hop.lastAt ?? ""}`,
  ]
    .filter((text) => text !== "")
    .join("; ");

const after = (ms: number): string => `+${duration(ms)}`;

/** 12 ms, 1.5 s, 3 m 20 s, 2 h 5 m. */
const duration = (ms: number): string => {
  if (ms < 1_000) return `${ms} ms`;
  const s = ms / 1_000;
  if (s < 60) return `${s < 10 ? Math.floor(s * 10) / 10 : Math.floor(s)} s`;
  const m = Math.floor(s / 60);
  return m < 60 ? `${m} m ${Math.floor(s % 60)} s` : `${Math.floor(m / 60)} h ${m % 60} m`;
};
