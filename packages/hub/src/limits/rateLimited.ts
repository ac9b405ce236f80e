import { HubError } from "@rootstock/protocol";
import type { LimitName, RateRule } from "./rules.ts";

/** 429 with what a client may know of the limit (draft-ietf-httpapi-ratelimit-headers). */
export class RateLimited extends HubError {
  constructor(limit: LimitName, rule: RateRule, waitMs: number) {
    const seconds = Math.max(1, Math.ceil(waitMs / 1000));
    const window = Math.max(1, Math.ceil(rule.burst / rule.perSecond));
    super("rate_limited", `too many requests; try again in ${seconds} s`, {
      retryAfter: seconds,
      details: { limit },
      headers: {
        "ratelimit-policy": `"${limit}";q=${rule.burst};w=${window}`,
        ratelimit: `"${limit}";r=0;t=${seconds}`,
      },
    });
  }
}
