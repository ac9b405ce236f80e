/** What a caller may do, told to the web UI (spec/03 5.7). The order is the original's. */

const PLAIN = ["read", "update", "delete"] as const;

/** With one thing, by its kind as the access decision knows it. */
export const ITEM_ACTIONS = {
  agent: [...PLAIN, "start", "stop", "message", "attach"],
  project: [...PLAIN, "manage", "register"],
  template: PLAIN,
  harness_config: PLAIN,
  skill: PLAIN,
  policy: PLAIN,
  group: [...PLAIN, "addMember", "removeMember"],
  user: ["read", "update"],
  runtimeBroker: [...PLAIN, "dispatch"],
  gcp_service_account: ["read", "delete", "verify"],
} as const;

const PLAIN_LIST = ["create", "list"] as const;

/** With a list of things. */
export const LIST_ACTIONS = {
  agent: [...PLAIN_LIST, "stop_all"],
  project: PLAIN_LIST,
  template: PLAIN_LIST,
  harness_config: PLAIN_LIST,
  skill: PLAIN_LIST,
  policy: PLAIN_LIST,
  group: PLAIN_LIST,
  runtimeBroker: PLAIN_LIST,
  gcp_service_account: [...PLAIN_LIST, "mint"],
} as const;

export interface Capabilities {
  readonly actions: readonly string[];
}

/** Those of the actions that are allowed. */
export const capabilities = <A extends string>(
  actions: readonly A[],
  allowed: (action: A) => boolean,
): Capabilities => ({ actions: actions.filter(allowed) });
