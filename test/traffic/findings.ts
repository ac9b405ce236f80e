/** One way in which our hub's side of a replayed exchange is not as it was recorded. */
export interface Finding {
  readonly flows: readonly string[];
  /** The exchange: `POST /api/v1/projects/:id/agents`, `hub: POST ...` for a tunnelled request, `event: <subject>`. */
  readonly where: string;
  /** What differs. */
  readonly what: string;
}

const NAMED =
  /\/(projects|groves|agents|runtime-brokers|subscriptions|harness-configs)\/(?!register\b|connect\b)[^/?]+/g;
const ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

/** A path without its query and with `:id` for names, old and new spelling of a project alike. */
export const routeOf = (method: string, path: string): string =>
  `${method} ${path
    .replace(/\?.*$/, "")
    .replace(NAMED, "/$1/:id")
    .replace(/\/groves\b/, "/projects")}`;

/** A subject with `:id` for ids. */
export const subjectOf = (subject: string): string => subject.replace(ID, ":id");

/** The findings of a replay, in order. */
export class Findings {
  readonly all: Finding[] = [];

  add(flows: readonly string[], where: string, whats: readonly string[]): void {
    for (const what of whats) this.all.push({ flows, where, what });
  }
}
