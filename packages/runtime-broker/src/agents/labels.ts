import type { AgentRecord } from "./agentRecord.ts";

/** The label that tells the containers of several runtime brokers on one machine apart. */
export const RUNTIME_BROKER_LABEL = "rootstock.runtime-broker";

/** Labels by which the original's tools, and this program, find an agent's container. */
export const agentLabels = (record: AgentRecord, runtimeBrokerId: string): Record<string, string> => ({
  "scion.agent": "true",
  "scion.name": record.slug,
  "scion.template": record.template ?? "",
  "scion.harness_config": record.harness,
  "scion.harness_auth": record.harnessAuth ?? "",
  "scion.project": record.projectSlug,
  "scion.grove": record.projectSlug,
  "scion.project_id": record.projectId,
  "scion.grove_id": record.projectId,
  [RUNTIME_BROKER_LABEL]: runtimeBrokerId,
});
