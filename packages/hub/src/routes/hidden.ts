import { HubError, notFound } from "@rootstock/protocol";
import type { Resource } from "../auth/index.ts";

/**
 * The refusal of what is there and hidden from who asks: to them it is as if it were not, word for word (404 where a path
 * names it, 400 where a body does). Only the audit log is told what it was, and why they may not see it.
 */
export class Hidden extends HubError {
  /** Why it is hidden; never shown to the caller. */
  readonly reason: string;
  /** What it is, where the path does not say. */
  readonly resource: Resource | undefined;

  /** @param shown what is answered where there is no such thing */
  constructor(shown: HubError, reason: string, resource?: Resource) {
    super(shown.code, shown.message, shown.details && { details: shown.details });
    this.reason = reason;
    this.resource = resource;
  }

  /** 404. */
  static at(what: string, reason: string, resource?: Resource): Hidden {
    return new Hidden(notFound(what), reason, resource);
  }
}
