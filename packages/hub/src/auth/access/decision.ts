import type { Policy } from "./policies.ts";

export interface Decision {
  readonly allow: boolean;
  /** Why, in the words of spec/03 6.3 where that has one: for the log, and for the caller who is refused. */
  readonly reason: string;
  /** The policy that decided, where one did. */
  readonly policy?: Policy;
}

export const allow = (reason: string): Decision => ({ allow: true, reason });
export const refuse = (reason: string): Decision => ({ allow: false, reason });

/** What a policy says. */
export const byPolicy = (policy: Policy): Decision => ({
  allow: policy.effect === "allow",
  reason: policy.delegated ? "delegated access" : "policy match",
  policy,
});

/** What no rule allows. */
export const DEFAULT_DENY = refuse("default deny");
