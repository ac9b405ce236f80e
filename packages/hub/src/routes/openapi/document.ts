import type { Route } from "../route.ts";
import { type JsonSchema, jsonSchemaOf } from "./jsonSchema.ts";
import { operationIdOf, tagOf, templateOf } from "./names.ts";
import { type Name, operationOf, type Share } from "./operation.ts";
import { SECURITY_SCHEMES } from "./security.ts";

const DESCRIPTION = `Made from the very declarations and schemas that the hub serves and validates with.

Every path below \`/api/v1/projects\` is served below \`/api/v1/groves\`, too, for older clients: deprecated, and left out here. Every answer carries \`X-Request-Id\`, which the log has as well.

Other methods of these paths are answered with 405; other paths with 404 or, where they belong to parts that this hub does not have, with 501 and the code \`not_implemented\`.`;

/**
 * The document of an API of these routes, OpenAPI 3.1, but for those that are not to be in it. Of routes with the same method and path the first counts, as it
 * does for calls.
 */
export const openApiDocument = (routes: readonly Route[], version: string): JsonSchema => {
  const schemas = new Map<string, JsonSchema>();
  const responses = new Map<string, JsonSchema>();
  const paths = new Map<string, Map<string, JsonSchema>>();
  const names = new Set<string>();
  const name: Name = (schema, io) => {
    const { schema: found, named } = jsonSchemaOf(schema, io);
    for (const [key, value] of Object.entries(named)) schemas.set(key, value);
    return found;
  };
  const share: Share = (key, make) => {
    if (!responses.has(key)) responses.set(key, make());
    return { $ref: `#/components/responses/${key}` };
  };
  for (const route of routes) {
    if (route.documented === false) continue;
    const path = templateOf(route.path);
    const methods = paths.get(path) ?? new Map<string, JsonSchema>();
    const method = route.method.toLowerCase();
    if (methods.has(method)) continue;
    const operationId = free(operationIdOf(route), names);
    names.add(operationId);
    paths.set(path, methods.set(method, { operationId, ...operationOf(route, name, share) }));
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Rootstock",
      version,
      description: DESCRIPTION,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: [...new Set(routes.filter((r) => r.documented !== false).map(tagOf))].sort().map((tag) => ({ name: tag })),
    paths: Object.fromEntries([...paths].map(([path, methods]) => [path, Object.fromEntries(methods)])),
    components: {
      schemas: Object.fromEntries([...schemas].sort(([a], [b]) => (a < b ? -1 : 1))),
      responses: Object.fromEntries([...responses].sort(([a], [b]) => (a < b ? -1 : 1))),
      securitySchemes: SECURITY_SCHEMES,
    },
  };
};

/** The name, or with a number what comes after those that have it already. */
const free = (name: string, taken: ReadonlySet<string>): string => {
  let found = name;
  for (let n = 2; taken.has(found); n += 1) found = `${name}${n}`;
  return found;
};
