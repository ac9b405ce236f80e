import { z } from "zod";
import { flag, optionalText, textMap } from "../tunnel/request.ts";

/** Bodies of create and start (spec/01 4.2, 4.5). Unknown fields pass unread, null means absent. */

export const secretsField = z
  .array(
    z.object({
      name: z.string(),
      type: z
        .string()
        .nullish()
        .transform((type) => type || "environment"),
      target: z.string(),
      value: z.string(),
    }),
  )
  .nullish()
  .transform((secrets) => secrets ?? []);

const gitClone = z
  .object({ url: z.string().min(1), branch: optionalText, depth: z.number().int().min(0).nullish() })
  .nullish();

/** The parts of an agent's inline configuration that mean something here; a value of another type is passed over. */
export const inlineConfigField = z
  .object({
    harness_config: z.string().optional().catch(undefined),
    image: z.string().optional().catch(undefined),
    env: z.record(z.string(), z.string()).optional().catch(undefined),
  })
  .nullish();
export type InlineConfig = NonNullable<z.infer<typeof inlineConfigField>>;

/** Becomes a label and a part of file names after hashing; control characters and slashes have no business in it. */
const agentName = z
  .string({ error: "is required" })
  .min(1, "is required")
  .max(253)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "must consist of letters, digits, '.', '_' and '-'");

export const createPayload = z.object({
  requestId: optionalText,
  id: optionalText,
  slug: agentName.nullish(),
  name: agentName,
  projectId: z.string({ error: "is required" }).min(1, "is required"),
  userId: optionalText,
  hubEndpoint: optionalText,
  agentToken: optionalText,
  resolvedEnv: textMap,
  resolvedSecrets: secretsField,
  requiredSecrets: z
    .array(
      z.object({
        key: z.string().min(1),
        description: optionalText,
        type: optionalText,
        alternative_env_keys: z.array(z.string()).nullish(),
      }),
    )
    .nullish()
    .transform((secrets) => secrets ?? []),
  gatherEnv: flag,
  creatorName: optionalText,
  noAuth: flag,
  provisionOnly: flag,
  projectPath: optionalText,
  grovePath: optionalText,
  projectSlug: optionalText,
  groveSlug: optionalText,
  workspaceStoragePath: optionalText,
  workspaceMode: optionalText,
  inlineConfig: inlineConfigField,
  config: z
    .object({
      template: optionalText,
      harnessConfig: optionalText,
      harnessAuth: optionalText,
      image: optionalText,
      env: z.array(z.string()).nullish(),
      task: z.string().nullish(),
      branch: optionalText,
      profile: optionalText,
      gitClone,
      sharedWorkspace: flag,
      gcpIdentity: z
        .object({ metadata_mode: optionalText, sa_email: optionalText, project_id: optionalText })
        .nullish(),
    })
    .nullish()
    .transform((config) => config ?? undefined),
});
export type CreatePayload = z.infer<typeof createPayload>;

export const startPayload = z.object({
  task: z.string().nullish(),
  harnessConfig: optionalText,
  resolvedEnv: textMap,
  resolvedSecrets: secretsField,
  inlineConfig: inlineConfigField,
  projectPath: optionalText,
  grovePath: optionalText,
  projectSlug: optionalText,
  groveSlug: optionalText,
  hubEndpoint: optionalText,
  sharedWorkspace: flag,
  resume: flag,
});
export type StartPayload = z.infer<typeof startPayload>;
