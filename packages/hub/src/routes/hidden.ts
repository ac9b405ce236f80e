import { HubError } from "@rootstock/protocol";

/**
 * 404 for what is there and hidden from who asks: to them it is {@link notFound}, word for word. Only the audit log is told
 * what it was, and why they may not see it.
 */
export class Hidden extends HubError {
  /** Why it is hidden; never shown to the caller. */
  readonly reason: string;

  constructor(what: string, reason: string) {
    super("not_found", `${what} not found`);
    this.reason = reason;
  }
}
