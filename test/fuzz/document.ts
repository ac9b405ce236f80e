/**
 * The hub's document as the fuzzer gets it: what is answered stays as it is; of what is sent, ids are often some of
 * things that there are, since made-up ones get 404 and nothing else.
 */

type Json = Readonly<Record<string, unknown>>;

const METHODS = ["get", "post", "put", "patch", "delete"] as const;

/** Names of fields by which the same things are named in bodies and queries. */
const SAME: Readonly<Record<string, string>> = {
  groveId: "projectId",
  runtimeBrokerId: "brokerId",
  project: "projectId",
  agent: "agentId",
};

export interface FuzzOptions {
  /** Ids of things that there are, by the name of the parameter. */
  readonly ids: Readonly<Record<string, readonly string[]>>;
  /** Of operations that are not configured, and answer nothing else: one of so many is taken. */
  readonly oneOf: number;
  /** Which one. */
  readonly turn: number;
}

export const fuzzDocument = (document: Json, options: FuzzOptions): Json => {
  let bare = 0;
  let all = 0;
  const paths = Object.entries(document.paths as Json).flatMap(([path, item]) => {
    const operations = Object.entries(item as Json).flatMap(([method, operation]) => {
      if (!METHODS.some((m) => m === method)) return [];
      const taken = isServed(operation as Json) || bare++ % options.oneOf === options.turn % options.oneOf;
      return taken ? [[method, withIds(operation as Json, options.ids, all++ % options.oneOf === 0)] as const] : [];
    });
    return operations.length === 0 ? [] : [[path, Object.fromEntries(operations)] as const];
  });
  const { securitySchemes: _, ...components } = document.components as Json;
  return { ...document, paths: Object.fromEntries(paths), components };
};

const isServed = ({ responses }: Json): boolean =>
  Object.keys(responses as Json).some((status) => status.startsWith("2") || status.startsWith("3"));

/** @param keyed whether with keys of idempotency: the fuzzer's are few, so that nearly all are refused as used */
const withIds = (operation: Json, ids: FuzzOptions["ids"], keyed: boolean): Json => {
  const { security: _, parameters, requestBody, ...rest } = operation;
  return {
    ...rest,
    ...(Array.isArray(parameters) && {
      parameters: parameters
        .filter((p: Json) => keyed || p.name !== "Idempotency-Key")
        .map((p: Json) => ({ ...p, schema: known(String(p.name), p.schema as Json, ids) })),
    }),
    ...(requestBody !== undefined && { requestBody: deep(requestBody, ids) }),
  };
};

const known = (name: string, schema: Json, ids: FuzzOptions["ids"]): Json => {
  const found = ids[SAME[name] ?? name];
  return found && schema.type !== "array" ? { anyOf: [{ type: "string", enum: found }, schema] } : schema;
};

const deep = (value: unknown, ids: FuzzOptions["ids"]): unknown => {
  if (Array.isArray(value)) return value.map((inner) => deep(inner, ids));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (key !== "properties") return [key, deep(inner, ids)];
      const properties = Object.entries(inner as Json).map(([name, schema]) => [
        name,
        known(name, deep(schema, ids) as Json, ids),
      ]);
      return [key, Object.fromEntries(properties)];
    }),
  );
};
