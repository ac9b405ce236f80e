import { ERROR_STATUS, type ErrorCode } from "@rootstock/protocol";
import type { z } from "zod";
import { doesName } from "../does.ts";
import type { Route } from "../route.ts";
import { isOtherBody } from "../shapes.ts";
import { answersOf, contentTypesOf, type DeclaredAnswer, jsonShapeOf } from "./answers.ts";
import { type JsonSchema, jsonSchemaOf } from "./jsonSchema.ts";
import { parametersOf, tagOf } from "./names.ts";
import { securityOf } from "./security.ts";

/** Takes what a schema names into the document. */
export type Name = (schema: z.ZodType, io: "input" | "output") => JsonSchema;

/** What path parameters are. One that is not here and ends in `Id` is a UUID, every other one a text. */
const PATH_PARAMETERS: Readonly<Record<string, JsonSchema>> = {
  projectId: { schema: { type: "string", minLength: 1 }, description: "The project's id, or `<id>__<slug>`." },
  agentId: { schema: { type: "string", minLength: 1 }, description: "The agent's id; below a project its slug, too." },
  rest: { schema: { type: "string", minLength: 1 }, description: "Any number of segments." },
};

const pathParameter = (name: string): JsonSchema => ({
  name,
  in: "path",
  required: true,
  ...(PATH_PARAMETERS[name] ?? {
    schema: name.endsWith("Id") ? { type: "string", format: "uuid" } : { type: "string", minLength: 1 },
  }),
});

const queryParameters = (route: Route, name: Name): readonly JsonSchema[] => {
  if (!route.query) return [];
  const { properties, required } = name(route.query, "input") as {
    readonly properties?: Readonly<Record<string, JsonSchema>>;
    readonly required?: readonly string[];
  };
  return Object.entries(properties ?? {}).map(([key, schema]) => ({
    name: key,
    in: "query",
    // What may be repeated may be left out: the schema gets an empty list.
    required: required?.includes(key) === true && !route.repeated?.includes(key),
    schema,
  }));
};

const IDEMPOTENCY_KEY: JsonSchema = {
  name: "Idempotency-Key",
  in: "header",
  required: false,
  schema: { type: "string", pattern: "^[!-~]{1,255}$" },
  description: "The same call with the same key runs once within 24 hours, and is answered alike.",
};

const requestBody = (route: Route, name: Name): JsonSchema | undefined => {
  if (route.reads) {
    const content = Object.entries(route.reads).map(([type, shape]) => [
      type,
      isOtherBody(shape) ? {} : { schema: name(shape, "input") },
    ]);
    return { required: true, content: Object.fromEntries(content) };
  }
  if (!route.body) return undefined;
  return {
    required: !route.body.safeParse({}).success,
    content: { "application/json": { schema: name(route.body, "input") } },
  };
};

const DESCRIPTIONS: Readonly<Record<number, string>> = {
  200: "Done.",
  201: "Created.",
  202: "Accepted: it goes on.",
  204: "Done; there is nothing to say.",
  302: "Elsewhere.",
  303: "Elsewhere.",
};

const describe = ({ status, codes }: DeclaredAnswer): string =>
  codes.length > 0 ? `Refused: ${codes.join(", ")}.` : (DESCRIPTIONS[status] ?? `Status ${status}.`);

const RETRY_AFTER: JsonSchema = {
  "Retry-After": {
    description: "Seconds after which the same call may succeed.",
    schema: { type: "integer", minimum: 0 },
  },
};

const RETRIED: readonly number[] = [ERROR_STATUS.rate_limited, ERROR_STATUS.unavailable];

const response = (answer: DeclaredAnswer, name: Name): JsonSchema => {
  const json = jsonShapeOf(answer);
  const types = contentTypesOf(answer).filter((type) => type !== undefined);
  return {
    description: describe(answer),
    ...(RETRIED.includes(answer.status) && { headers: RETRY_AFTER }),
    ...(types.length > 0 && {
      content: Object.fromEntries(
        types.map((type) => [type, type === "application/json" && json ? { schema: name(json, "output") } : {}]),
      ),
    }),
  };
};

/** Whether the answer is the plain envelope, the same wherever its codes are. */
const isPlainRefusal = ({ codes, shapes }: DeclaredAnswer): boolean => codes.length > 0 && shapes.length === 0;

const refusalName = (status: number, codes: readonly ErrorCode[]): string => [status, ...codes].join("-");

/** Takes an answer that many routes share into the document. */
export type Share = (name: string, response: () => JsonSchema) => JsonSchema;

/** What the document says of a route. */
export const operationOf = (route: Route, name: Name, share: Share): JsonSchema => {
  const body = requestBody(route, name);
  const responses = answersOf(route).map((answer) => [
    answer.status,
    isPlainRefusal(answer)
      ? share(refusalName(answer.status, answer.codes), () => response(answer, name))
      : response(answer, name),
  ]);
  const parameters = [
    ...parametersOf(route.path).map(pathParameter),
    ...queryParameters(route, name),
    ...(route.method === "GET" ? [] : [IDEMPOTENCY_KEY]),
  ];
  return {
    tags: [tagOf(route)],
    summary: route.summary ?? doesName(route.does),
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: body }),
    responses: Object.fromEntries(responses),
    security: securityOf(route),
  };
};

/** Reads a JSON schema by itself, with what it names inside. For a check of one answer. */
export const selfContained = (schema: z.ZodType): JsonSchema => {
  const { schema: found, named } = jsonSchemaOf(schema, "output");
  return { ...found, components: { schemas: named } };
};
