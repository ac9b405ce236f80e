import { HubError } from "@rootstock/protocol";
import { type AuditEvent, actingAs, currentActor } from "@rootstock/store";
import { auditActor } from "./auditActor.ts";
import { clientAddress } from "./clientAddress.ts";
import type { Credentials } from "./credentials.ts";
import { NOBODY } from "./principal.ts";

export interface WatchOptions {
  /** Records that somebody was refused. */
  readonly denied: (event: Omit<AuditEvent, "success">) => Promise<void>;
  /** Whether what this peer says about the client may be believed. */
  readonly trusts: (address: string) => boolean;
}

type Request = Pick<Credentials, "headers" | "peer">;

/** `verify`, with every refused credential recorded. */
export const watched =
  <R extends Request, T>(options: WatchOptions, verify: (request: R) => Promise<T>) =>
  async (request: R): Promise<T> => {
    try {
      return await verify(request);
    } catch (err) {
      if (err instanceof HubError && err.status === 401) void denied(options, request, err);
      throw err;
    }
  };

const denied = ({ denied: record, trusts }: WatchOptions, { headers, peer }: Request, err: HubError): Promise<void> => {
  const event = {
    action: err.code === "broker_auth_failed" ? "runtime_broker_auth_failure" : "auth_failure",
    reason: err.message,
    targetType: "hub",
  };
  if (currentActor()) return record(event);
  const address = clientAddress(peer, headers.get("x-forwarded-for"), trusts);
  return actingAs(
    () => auditActor(NOBODY, { headers, address, requestId: undefined }),
    () => record(event),
  );
};
