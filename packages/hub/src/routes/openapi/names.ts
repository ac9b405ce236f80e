import type { Route } from "../route.ts";

/** Names that follow from a route's path. */

const API = "/api/v1/";

const segmentsOf = (path: string): readonly string[] =>
  (path.startsWith(API) ? path.slice(API.length) : path.slice(1)).split("/").filter((segment) => segment !== "");

const isParameter = (segment: string | undefined): boolean => segment === "*" || segment?.startsWith(":") === true;

const camel = (segment: string): string =>
  segment
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => word !== "")
    .map((word) => word[0]?.toUpperCase() + word.slice(1))
    .join("");

const singular = (word: string): string => {
  if (word.endsWith("ies")) return `${word.slice(0, -3)}y`;
  if (/(ch|sh)es$/.test(word)) return word.slice(0, -2);
  return word.endsWith("s") && !word.endsWith("ss") ? word.slice(0, -1) : word;
};

/** `GET /api/v1/projects/:projectId/agents` is `getProjectAgents`: in the singular what a parameter names. */
export const operationIdOf = ({ method, path }: Pick<Route, "method" | "path">): string => {
  const segments = segmentsOf(path);
  const words = segments.map((segment, i) => {
    if (segment === "*") return "Below";
    if (isParameter(segment)) return "";
    return camel(segments[i + 1]?.startsWith(":") ? singular(segment) : segment);
  });
  return method.toLowerCase() + words.join("");
};

/** The resource that a path is about, for grouping. */
export const tagOf = ({ path }: Pick<Route, "path">): string => {
  if (!path.startsWith(API)) return path.startsWith("/auth") || path.startsWith("/invite") ? "auth" : "replica";
  const [first = "", second, third] = segmentsOf(path);
  if (first === "admin" && second !== undefined && !isParameter(second)) return second;
  if (first === "projects" && third !== undefined && !isParameter(third)) return third === "agents" ? third : first;
  return first;
};

/** The path as OpenAPI writes it. */
export const templateOf = (path: string): string =>
  path.replace(/:(\w+)/g, (_, name: string) => `{${name}}`).replace(/\/\*$/, "/{rest}");

/** The names of its parameters, in order. */
export const parametersOf = (path: string): readonly string[] =>
  [...templateOf(path).matchAll(/\{(\w+)\}/g)].map((m) => m[1] ?? "");
