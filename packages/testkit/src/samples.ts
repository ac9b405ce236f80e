import { z } from "zod";

/** Values for request bodies, right and wrong, made from the very schemas that routes declare. */

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** A place in a body at which something is expected, and what that is. */
export interface Field {
  /** From the body's root; empty for the body itself. */
  readonly path: readonly string[];
  /** JSON types that are read there. Empty: anything is. */
  readonly types: ReadonlySet<string>;
  /** The most characters of a text; undefined: no limit of its own. */
  readonly maxLength: number | undefined;
}

const jsonSchema = (schema: z.ZodType): JsonSchema => z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });

const isSchema = (value: unknown): value is JsonSchema => typeof value === "object" && value !== null;

const alternatives = (schema: JsonSchema): readonly JsonSchema[] =>
  (schema.anyOf ?? schema.oneOf)?.filter(isSchema).flatMap(alternatives) ?? [schema];

const typesOf = (schema: JsonSchema): Set<string> => {
  const types = new Set<string>();
  for (const s of alternatives(schema)) {
    if (s.const !== undefined) types.add(typeof s.const);
    else if (s.type === undefined) return new Set();
    else for (const type of [s.type].flat()) types.add(type === "integer" ? "number" : type);
  }
  return types;
};

/** Every field that a schema names, those inside lists and maps included. */
export const fieldsOf = (schema: z.ZodType): readonly Field[] => walk(jsonSchema(schema), []);

const walk = (schema: JsonSchema, path: readonly string[]): readonly Field[] => {
  const lengths = alternatives(schema).map((s) => s.maxLength ?? 0);
  const longest = Math.max(...lengths);
  const self: Field = { path, types: typesOf(schema), maxLength: longest > 0 ? longest : undefined };
  const inner = alternatives(schema).flatMap((s) => [
    ...Object.entries(s.properties ?? {}).flatMap(([name, p]) => (isSchema(p) ? walk(p, [...path, name]) : [])),
    ...(isSchema(s.items) && !Array.isArray(s.items) ? walk(s.items, [...path, "0"]) : []),
    ...(isSchema(s.additionalProperties) ? walk(s.additionalProperties, [...path, "KEY"]) : []),
  ]);
  return [self, ...inner];
};

/** The smallest value that a schema reads: what is required, nothing else. */
export const sampleOf = (schema: z.ZodType): unknown => sample(jsonSchema(schema));

const TEXTS = ["a", "agent-1", "A1", "scion.project.x", "00000000-0000-4000-8000-000000000000", ""];

const sample = (schema: JsonSchema): unknown => {
  const [s = {}] = alternatives(schema);
  if (s.const !== undefined) return s.const;
  if (s.enum) return s.enum[0];
  switch (s.type) {
    case "object":
      return Object.fromEntries(
        (s.required ?? []).map((name) => [name, isSchema(s.properties?.[name]) ? sample(s.properties[name]) : "a"]),
      );
    case "array":
      return Array.from({ length: s.minItems ?? 0 }, () =>
        isSchema(s.items) && !Array.isArray(s.items) ? sample(s.items) : "a",
      );
    case "string":
      return TEXTS.find((t) => s.pattern === undefined || new RegExp(s.pattern).test(t)) ?? "a";
    case "integer":
    case "number":
      return Math.max(1, s.minimum ?? 1);
    case "boolean":
      return true;
    default:
      return "a";
  }
};

/** `body` with `value` at `path`; what is missing on the way is made. */
export const withValue = (body: unknown, path: readonly string[], value: unknown): unknown => {
  const [head, ...rest] = path;
  if (head === undefined) return value;
  if (head === "0") return [withValue(Array.isArray(body) ? body[0] : undefined, rest, value)];
  const object = typeof body === "object" && body !== null && !Array.isArray(body) ? body : {};
  return { ...object, [head]: withValue(Reflect.get(object, head), rest, value) };
};

const TYPES = { boolean: true, number: 7, string: "text", array: ["text"], object: { key: "text" } } as const;

/** One value of each JSON type that is not read at the field. Null counts as absent nearly everywhere. */
export const wrongValues = (field: Field): readonly unknown[] =>
  field.types.size === 0
    ? []
    : Object.entries(TYPES).flatMap(([type, value]) => (field.types.has(type) ? [] : [value]));
