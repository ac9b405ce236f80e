import type { Operation } from "../operations/operation.ts";
import { BrokerApiError } from "./errors.ts";
import type { TunnelRequest } from "./request.ts";

export interface Route {
  readonly operation: Operation;
  readonly params: Readonly<Record<string, string>>;
}

const match = (pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined => {
  if (pattern.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? "";
    if (part.startsWith(":")) params[part.slice(1)] = segment;
    else if (part !== segment) return undefined;
  }
  return params;
};

/** Finds the operation for a request by method and path. */
export class Router {
  readonly #routes: readonly { readonly pattern: readonly string[]; readonly operation: Operation }[];

  constructor(operations: readonly Operation[]) {
    this.#routes = operations.map((operation) => ({
      pattern: operation.path.split("/").filter((part) => part !== ""),
      operation,
    }));
  }

  /** @throws BrokerApiError 404 `not_found` for an unknown path, 405 for another method */
  find(request: TunnelRequest): Route {
    let otherMethod = false;
    for (const { pattern, operation } of this.#routes) {
      const params = match(pattern, request.segments);
      if (!params) continue;
      if (operation.method === request.method) return { operation, params };
      otherMethod = true;
    }
    throw otherMethod
      ? new BrokerApiError("method_not_allowed", `${request.method} is not allowed here`)
      : new BrokerApiError("not_found", "no such resource");
  }
}
