/** What of the audit log does not come by triggers: refusals, kept from flooding it. */
export * from "./denials.ts";
