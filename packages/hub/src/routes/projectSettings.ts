import { notFound } from "@rootstock/protocol";
import { changeProject, type Labels, lockProject, transaction } from "@rootstock/store";
import { z } from "zod";
import { count as amount, some } from "../wire/index.ts";
import { authenticated, users } from "./access.ts";
import type { ResourceDeps } from "./deps.ts";
import { text } from "./fields.ts";
import { plainProjectOf, projectOf } from "./lookup.ts";
import { SETTINGS_PREFIX } from "./projects.ts";
import { json, type Route, route } from "./route.ts";

const count = z
  .number()
  .int()
  .max(2_147_483_647)
  .nullish()
  .transform((n) => (n && n > 0 ? n : undefined));
const amounts = z.object({ cpu: text(64), memory: text(64) }).nullish();

const settingsBody = z.object({
  activeProfile: text(256),
  defaultTemplate: text(256),
  defaultHarnessConfig: text(256),
  telemetryEnabled: z.boolean().nullish(),
  defaultMaxTurns: count,
  defaultMaxModelCalls: count,
  defaultMaxDuration: text(64),
  defaultResources: z.object({ requests: amounts, limits: amounts, disk: text(64) }).nullish(),
  defaultGCPIdentityMode: text(64),
  defaultGCPIdentityServiceAccountID: text(256),
});
type Settings = z.output<typeof settingsBody>;

const amountsJson = z.object({ cpu: z.string(), memory: z.string() }).partial();
const settingsReply = z
  .object({
    activeProfile: z.string(),
    defaultTemplate: z.string(),
    defaultHarnessConfig: z.string(),
    telemetryEnabled: z.boolean(),
    defaultMaxTurns: amount,
    defaultMaxModelCalls: amount,
    defaultMaxDuration: z.string(),
    defaultResources: z.object({ requests: amountsJson, limits: amountsJson, disk: z.string() }).partial(),
    defaultGCPIdentityMode: z.string(),
    defaultGCPIdentityServiceAccountID: z.string(),
  })
  .partial()
  .meta({ id: "ProjectSettings" });

/** Every setting's annotation, without the prefix (spec/02 3.6). */
const KEYS = {
  activeProfile: "active-profile",
  defaultTemplate: "default-template",
  defaultHarnessConfig: "default-harness-config",
  telemetryEnabled: "telemetry-enabled",
  maxTurns: "default-max-turns",
  maxModelCalls: "default-max-model-calls",
  maxDuration: "default-max-duration",
  cpuRequest: "default-resources-cpu-request",
  memoryRequest: "default-resources-memory-request",
  cpuLimit: "default-resources-cpu-limit",
  memoryLimit: "default-resources-memory-limit",
  disk: "default-resources-disk",
  gcpMode: "default-gcp-identity-mode",
  gcpAccount: "default-gcp-identity-service-account-id",
} as const;

/** A project's settings (spec/02 3.6). They are kept as annotations, where older hubs keep them. */
export const projectSettingsRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId/settings",
    access: authenticated,
    does: { action: "read", on: "project" },
    summary: "A project's settings",
    replies: { 200: settingsReply },
    handler: async (call) => json(200, settingsJson((await projectOf(deps.db, call)).annotations)),
  }),
  route({
    method: "PUT",
    path: "/api/v1/projects/:projectId/settings",
    access: users,
    does: { action: "update", on: "project" },
    body: settingsBody,
    summary: "Sets a project's settings, all of them",
    replies: { 200: settingsReply },
    handler: async (call) => {
      const { id } = await plainProjectOf(deps.db, call);
      const annotations = await transaction(deps.db, async (tx) => {
        const project = await lockProject(tx, id);
        if (!project) throw notFound("Project");
        const next = withSettings(project.annotations, call.body);
        await changeProject(tx, id, { annotations: JSON.stringify(next) });
        return next;
      });
      deps.changed();
      return json(200, settingsJson(annotations));
    },
  }),
];

const withSettings = (annotations: Labels, s: Settings): Labels => {
  const given: Record<keyof typeof KEYS, string | undefined> = {
    activeProfile: s.activeProfile,
    defaultTemplate: s.defaultTemplate,
    defaultHarnessConfig: s.defaultHarnessConfig,
    telemetryEnabled: s.telemetryEnabled?.toString(),
    maxTurns: s.defaultMaxTurns?.toString(),
    maxModelCalls: s.defaultMaxModelCalls?.toString(),
    maxDuration: s.defaultMaxDuration,
    cpuRequest: s.defaultResources?.requests?.cpu,
    memoryRequest: s.defaultResources?.requests?.memory,
    cpuLimit: s.defaultResources?.limits?.cpu,
    memoryLimit: s.defaultResources?.limits?.memory,
    disk: s.defaultResources?.disk,
    gcpMode: s.defaultGCPIdentityMode,
    gcpAccount: s.defaultGCPIdentityServiceAccountID,
  };
  const next: Record<string, string> = { ...annotations };
  for (const [name, key] of Object.entries(KEYS)) {
    const value = given[name as keyof typeof KEYS];
    if (value) next[SETTINGS_PREFIX + key] = value;
    else delete next[SETTINGS_PREFIX + key];
  }
  return next;
};

const settingsJson = (annotations: Labels): object => {
  const get = (name: keyof typeof KEYS): string | undefined => annotations[SETTINGS_PREFIX + KEYS[name]];
  const number = (name: keyof typeof KEYS): number => Math.max(0, Math.trunc(Number(get(name) ?? 0))) || 0;
  const telemetry = get("telemetryEnabled");
  return {
    ...some("activeProfile", get("activeProfile")),
    ...some("defaultTemplate", get("defaultTemplate")),
    ...some("defaultHarnessConfig", get("defaultHarnessConfig")),
    ...(telemetry === "true" || telemetry === "false" ? { telemetryEnabled: telemetry === "true" } : {}),
    ...some("defaultMaxTurns", number("maxTurns")),
    ...some("defaultMaxModelCalls", number("maxModelCalls")),
    ...some("defaultMaxDuration", get("maxDuration")),
    ...some("defaultResources", {
      ...some("requests", { ...some("cpu", get("cpuRequest")), ...some("memory", get("memoryRequest")) }),
      ...some("limits", { ...some("cpu", get("cpuLimit")), ...some("memory", get("memoryLimit")) }),
      ...some("disk", get("disk")),
    }),
    ...some("defaultGCPIdentityMode", get("gcpMode")),
    ...some("defaultGCPIdentityServiceAccountID", get("gcpAccount")),
  };
};
