import { HubError, isStorable } from "@rootstock/protocol";
import type { z } from "zod";

/** Deeper than any client nests, and shallow enough for whatever walks a value by calling itself. */
const MAX_DEPTH = 64;

interface Fault {
  /** Empty: the value itself. */
  readonly field: string;
  readonly rule: string;
}

const NOT_TEXT = "must be Unicode text without NUL";

/** The first place in `value` that nothing behind this could take, whatever a schema says of it. */
const findFault = (value: unknown, field: string, depth: number): Fault | undefined => {
  if (typeof value === "string") return isStorable(value) ? undefined : { field, rule: NOT_TEXT };
  if (typeof value !== "object" || value === null) return undefined;
  if (depth >= MAX_DEPTH) return { field: "", rule: `must not be nested deeper than ${MAX_DEPTH} levels` };
  for (const [key, inner] of Object.entries(value)) {
    if (!isStorable(key)) return { field, rule: NOT_TEXT };
    const found = findFault(inner, field ? `${field}.${key}` : key, depth + 1);
    if (found) return found;
  }
  return undefined;
};

/** `value` as `schema` reads it. Throws 400 `validation_error` that names the first field at fault. */
export const validate = (schema: z.ZodType, value: unknown, where: "body" | "query"): unknown => {
  const fault = findFault(value, "", 0);
  if (fault) throw invalid(fault.field || where, `${fault.field || where} ${fault.rule}`);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue?.path.join(".") || where;
  throw invalid(field, `${field}: ${issue?.message ?? "invalid"}`);
};

/** More of a field's name helps nobody: a caller may have made it up. */
const MAX_FIELD = 256;

const invalid = (field: string, message: string): HubError =>
  new HubError("validation_error", message.slice(0, 4 * MAX_FIELD), { details: { field: field.slice(0, MAX_FIELD) } });
