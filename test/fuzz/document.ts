import type { Things, Values } from "./things.ts";

/**
 * The hub's document as the fuzzer gets it: what is answered stays as it is; of what is sent, ids are often some of
 * things that there are, since made-up ones get 404 and nothing else.
 */

export type Json = Readonly<Record<string, unknown>>;

export const METHODS = ["get", "post", "put", "patch", "delete"] as const;

/** Names of fields by which the same things are named in bodies and queries. */
const SAME: Readonly<Record<string, string>> = {
  groveId: "projectId",
  runtimeBrokerId: "brokerId",
  project: "projectId",
  agent: "agentId",
  ownerId: "userId",
  defaultRuntimeBrokerId: "brokerId",
};

/** Names that mean something else in a body than in a path. */
const IN_PATHS: readonly string[] = ["name"];
/** What nothing has. */
const NOBODY = "11111111-1111-4111-8111-111111111111";
/** Of so many operations one is called with keys of idempotency: the fuzzer's are few, so that nearly all are refused as used. */
const KEYED = 12;

/** @param turn which half of the operations gets known values alone, where there are any, and nothing made up besides */
export const fuzzDocument = (document: Json, things: Things, turn: number): Json => {
  let all = 0;
  const paths = Object.entries(document.paths as Json).map(([path, item]) => {
    const operations = Object.entries(item as Json).map(([method, operation]) => {
      if (!METHODS.some((m) => m === method)) return [method, operation] as const;
      all += 1;
      const how = { keyed: all % KEYED === 0, known: (all + turn) % 2 === 0 };
      return [method, withValues(path, method, operation as Json, things, how)] as const;
    });
    return [path, Object.fromEntries(operations)] as const;
  });
  const { securitySchemes: _, ...components } = document.components as Json;
  return { ...document, paths: Object.fromEntries(paths), components };
};

interface How {
  readonly keyed: boolean;
  /** Known values alone. */
  readonly known: boolean;
}

const withValues = (path: string, method: string, operation: Json, things: Things, how: How): Json => {
  const { security: _, parameters, requestBody, ...rest } = operation;
  const inPath = pathValues(path, method, things);
  // Of what belongs to a project most is in the first.
  const { projectId = [], ...others } = things.there;
  const values = { ...others, projectId: projectId.slice(0, 2) };
  return {
    ...rest,
    ...(Array.isArray(parameters) && {
      parameters: parameters
        .filter((p: Json) => how.keyed || p.name !== "Idempotency-Key")
        .map((p: Json) => {
          const known = p.in === "path" ? inPath[String(p.name)] : undefined;
          const schema = known ? { enum: known } : either(String(p.name), p.schema as Json, values, how);
          return { ...p, schema };
        }),
    }),
    ...(requestBody !== undefined && { requestBody: deep(requestBody, values, how) }),
  };
};

/** What a path's parameters may be: of what it takes away, what may go; of a place around that, the one it is in. */
const pathValues = (path: string, method: string, { there, expendable }: Things): Values => {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
  const takesAway = method === "delete" || path.endsWith("/revoke");
  return Object.fromEntries(
    names.flatMap((name, i) => {
      const last = i === names.length - 1;
      const found = (last && takesAway ? expendable[name] : undefined) ?? there[name];
      if (!found) return [];
      return [[name, last ? [...found, ...(name.endsWith("Id") ? [NOBODY] : [])] : found.slice(0, 1)]];
    }),
  );
};

const either = (name: string, schema: Json, values: Values, how: How): Json => {
  const found = IN_PATHS.includes(name) ? undefined : values[SAME[name] ?? name];
  if (!found) return schema;
  const known = { type: "string", enum: found };
  const wanted = schema.type === "array" ? { type: "array", items: known, minItems: 1, maxItems: 2 } : known;
  return how.known ? wanted : { anyOf: [wanted, schema] };
};

const deep = (value: unknown, values: Values, how: How): unknown => {
  if (Array.isArray(value)) return value.map((inner) => deep(inner, values, how));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (key !== "properties") return [key, deep(inner, values, how)];
      const properties = Object.entries(inner as Json).map(([name, schema]) => [
        name,
        either(name, deep(schema, values, how) as Json, values, how),
      ]);
      return [key, Object.fromEntries(properties)];
    }),
  );
};
