import { HubError } from "@rootstock/protocol";
import type { z } from "zod";

/** PostgreSQL text cannot hold NUL, so a NUL anywhere would become a failing statement later. */
const findNul = (value: unknown, path: string): string | undefined => {
  if (typeof value === "string") return value.includes("\u0000") ? path : undefined;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, inner] of Object.entries(value)) {
    if (key.includes("\u0000")) return path;
    const found = findNul(inner, path ? `${path}.${key}` : key);
    if (found !== undefined) return found;
  }
  return undefined;
};

/** `value` as `schema` reads it. Throws 400 `validation_error` that names the first field at fault. */
export const validate = (schema: z.ZodType, value: unknown, where: "body" | "query"): unknown => {
  const nul = findNul(value, "");
  if (nul !== undefined)
    throw new HubError("validation_error", `${nul || where} must not contain NUL`, {
      details: { field: nul || where },
    });
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue?.path.join(".") || where;
  throw new HubError("validation_error", `${field}: ${issue?.message ?? "invalid"}`, { details: { field } });
};
