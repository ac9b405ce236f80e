import { z } from "zod";

/** A JSON schema (2020-12, as OpenAPI 3.1 has it), and those that it names: by `#/components/schemas/<name>`. */
export interface NamedSchemas {
  readonly schema: JsonSchema;
  readonly named: Readonly<Record<string, JsonSchema>>;
}

export type JsonSchema = Readonly<Record<string, unknown>>;

const DEFINITIONS = "#/$defs/";
export const COMPONENTS = "#/components/schemas/";

/**
 * The schema as JSON schema, by zod's own converter. A schema with an `id` in its metadata becomes a named one.
 * @param io what is sent to the hub (`input`), or what it answers (`output`)
 */
export const jsonSchemaOf = (schema: z.ZodType, io: "input" | "output"): NamedSchemas => {
  // Wrapped, since a schema that is converted by itself is not named, whatever its metadata say.
  const converted = z.toJSONSchema(z.object({ it: schema }), {
    target: "draft-2020-12",
    io,
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      // Of types alone: who may write what is another question.
      delete jsonSchema.readOnly;
      // The format says the same in one word.
      if (jsonSchema.format === "uuid" || jsonSchema.format === "date-time") delete jsonSchema.pattern;
    },
  });
  const { it } = converted.properties ?? {};
  if (typeof it !== "object") throw new Error("no JSON schema");
  const named = Object.entries(converted.$defs ?? {}).map(([name, found]) => [name, renamed(found)] as const);
  return { schema: renamed(it) as JsonSchema, named: Object.fromEntries(named) as Record<string, JsonSchema> };
};

/** With references to where the document keeps named schemas. */
const renamed = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(renamed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) =>
      key === "$ref" && typeof inner === "string" && inner.startsWith(DEFINITIONS)
        ? [key, COMPONENTS + inner.slice(DEFINITIONS.length)]
        : [key, renamed(inner)],
    ),
  );
};
