import { PROFILE } from "../agents/agentView.ts";
import { VERSION } from "../version.ts";
import type { Operation } from "./operation.ts";

const uptimeText = (ms: number): string => {
  const seconds = Math.floor(ms / 1000);
  const parts = [
    [Math.floor(seconds / 3600), "h"],
    [Math.floor(seconds / 60) % 60, "m"],
  ] as const;
  return `${parts.flatMap(([n, unit]) => (n > 0 ? [`${n}${unit}`] : [])).join("")}${seconds % 60}s`;
};

/** `GET /healthz`: the only call that needs no signature. */
export const health: Operation = {
  method: "GET",
  path: "/healthz",
  unsigned: true,
  async run(_call, { agents, uptimeMs }) {
    const problem = await agents.runtime.problem();
    return {
      status: 200,
      json: {
        status: problem === undefined ? "healthy" : "degraded",
        version: VERSION,
        uptime: uptimeText(uptimeMs()),
        checks: { [agents.runtime.name]: problem ?? "available" },
      },
    };
  },
};

/** `GET /api/v1/info`. */
export const info: Operation = {
  method: "GET",
  path: "/api/v1/info",
  async run(_call, { agents, config, credentials, openStreams }) {
    const available = (await agents.runtime.problem()) === undefined;
    return {
      status: 200,
      json: {
        brokerId: (await credentials()).brokerId,
        name: config.name,
        version: VERSION,
        capabilities: { webPty: false, sync: false, attach: true, exec: true },
        openStreams: openStreams(),
        profiles: [{ name: PROFILE, type: agents.runtime.name, available }],
      },
    };
  },
};
