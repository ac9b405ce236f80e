import { HubError } from "@rootstock/protocol";
import type { z } from "zod";

/** PostgreSQL holds neither NUL nor half a surrogate pair: either would become a failing statement later. */
const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\u0000");

const findUnstorable = (value: unknown, path: string): string | undefined => {
  if (typeof value === "string") return isStorable(value) ? undefined : path;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, inner] of Object.entries(value)) {
    if (!isStorable(key)) return path;
    const found = findUnstorable(inner, path ? `${path}.${key}` : key);
    if (found !== undefined) return found;
  }
  return undefined;
};

/** `value` as `schema` reads it. Throws 400 `validation_error` that names the first field at fault. */
export const validate = (schema: z.ZodType, value: unknown, where: "body" | "query"): unknown => {
  const unstorable = findUnstorable(value, "");
  if (unstorable !== undefined)
    throw new HubError("validation_error", `${unstorable || where} must be Unicode text without NUL`, {
      details: { field: unstorable || where },
    });
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue?.path.join(".") || where;
  throw new HubError("validation_error", `${field}: ${issue?.message ?? "invalid"}`, { details: { field } });
};
