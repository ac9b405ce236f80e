/** What a caller may do, told to the web UI (spec/02 1.4). The order is the original's. */
export const AGENT_ACTIONS = ["read", "update", "delete", "start", "stop", "message", "attach"] as const;
export const AGENT_LIST_ACTIONS = ["create", "list", "stop_all"] as const;
export const PROJECT_ACTIONS = ["read", "update", "delete", "manage", "register"] as const;
export const PROJECT_LIST_ACTIONS = ["create", "list"] as const;
export const USER_ACTIONS = ["read", "update"] as const;

export interface Capabilities {
  readonly actions: readonly string[];
}

/** Those of the actions that are allowed. */
export const capabilities = <A extends string>(
  actions: readonly A[],
  allowed: (action: A) => boolean,
): Capabilities => ({ actions: actions.filter(allowed) });
