import { isIP } from "node:net";
import { parseUuid } from "@rootstock/protocol";
import { z } from "zod";
import { ACTIONS, RESOURCE_KINDS } from "../auth/index.ts";
import { choice, labels, MAX_NAME, MAX_TEXT, text } from "./fields.ts";

/** What policies are written as (spec/03 6.3). Absent, null and empty mean the same. */

const MAX_SOURCES = 256;
const MOST_PRIORITY = 2_147_483_647;

/** As policies name kinds of things. */
export const RESOURCE_TYPES = RESOURCE_KINDS.map((kind) => (kind === "runtimeBroker" ? "broker" : kind));
const EVERYTHING = "*";

const uuid = z.string().refine((s) => parseUuid(s) !== undefined, "must be a UUID");
const optionalUuid = uuid
  .or(z.literal(""))
  .nullish()
  .transform((s) => s || undefined);

const isSource = (s: string): boolean => {
  const [address = "", bits, ...more] = s.split("/");
  const most = { 4: 32, 6: 128 }[isIP(address)];
  return (
    most !== undefined && more.length === 0 && (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most))
  );
};

const moment = z.iso
  .datetime({ offset: true })
  .or(z.literal(""))
  .nullish()
  .transform((s) => s || undefined);

const conditions = z
  .object({
    labels,
    validFrom: moment,
    validUntil: moment,
    sourceIps: z
      .array(z.string().trim().refine(isSource, "must be an address or a range such as 10.0.0.0/8"))
      .max(MAX_SOURCES)
      .nullish(),
    delegatedFrom: z.object({ principalType: z.enum(["user", "agent"]), principalId: uuid }).nullish(),
    delegatedFromGroup: optionalUuid,
    visibility: z.array(z.enum(["private", "team", "public"])).nullish(),
  })
  .nullish()
  .transform(
    (given) => given && Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined && v !== null)),
  );

const action = z.enum([EVERYTHING, ...ACTIONS]);
const unique = <T>(list: readonly T[]): T[] => [...new Set(list)];

const resourceType = z
  .enum([EVERYTHING, ...RESOURCE_TYPES])
  .or(z.literal(""))
  .nullish()
  .transform((t) => t || undefined);

const priority = z.number().int().min(-MOST_PRIORITY).max(MOST_PRIORITY).nullish();

const shared = { description: text(MAX_TEXT), resourceType, resourceId: optionalUuid, conditions, priority };

/** A new policy. */
export const policyBody = z
  .object({
    ...shared,
    name: z.string().trim().min(1, "name is required").max(MAX_NAME),
    scopeType: z.enum(["project", "resource", "hub"]),
    scopeId: optionalUuid,
    actions: z.array(action).min(1, "actions are required").max(ACTIONS.length).transform(unique),
    effect: z.enum(["allow", "deny"]),
    labels,
    annotations: labels,
  })
  .refine((p) => p.scopeType === "hub" || p.scopeId !== undefined, { path: ["scopeId"], message: "is required" });

/** A change of one: all but its scope. */
export const policyPatch = z.object({
  ...shared,
  name: text(MAX_NAME),
  actions: z.array(action).max(ACTIONS.length).transform(unique).nullish(),
  effect: choice("allow", "deny"),
  labels,
  annotations: labels,
});
