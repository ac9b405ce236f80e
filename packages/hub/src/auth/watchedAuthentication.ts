import { HubError } from "@rootstock/protocol";
import { type AuditEvent, actingAs, currentActor } from "@rootstock/store";
import { auditActor } from "./auditActor.ts";
import { SessionEnded } from "./browserSessions.ts";
import { clientAddress } from "./clientAddress.ts";
import type { Credentials } from "./credentials.ts";
import { NOBODY } from "./principal.ts";

/**
 * Who keeps people from trying out credentials. What is good passes at any address and any replica, whoever else fails there:
 * so it is looked at before anything is counted, and nobody is locked out by a guesser beside them. That leaves whoever
 * guesses as many tries as the hub can carry, which must be hopeless by itself: what hubs draw has 128 bits at least, and
 * what operators choose is checked for it (config.ts).
 */
export interface Guard {
  /** One more call from there that nobody counts otherwise. Throws 429 once there were too many. */
  met(address: string): void;
  /** One more that shows a credential which proves nothing. Throws 429 once there were too many, at all replicas together. */
  failed(address: string): Promise<void>;
}

export interface WatchOptions {
  /** Records that somebody was refused. */
  readonly denied: (event: Omit<AuditEvent, "success">) => Promise<void>;
  /** Whether what this peer says about the client may be believed. */
  readonly trusts: (address: string) => boolean;
  readonly guard: Guard;
}

type Request = Pick<Credentials, "headers" | "peer">;

/** `verify`, with every refused credential counted, and recorded until its address has failed too often. */
export const watched =
  <R extends Request, T>(
    { denied, trusts, guard }: WatchOptions,
    verify: (request: R) => Promise<T>,
  ): ((request: R) => Promise<T>) =>
  async (request) => {
    try {
      return await verify(request);
    } catch (err) {
      if (!(err instanceof HubError && err.status === 401)) throw err;
      const { headers, peer } = request;
      const address = clientAddress(peer, headers.get("x-forwarded-for"), trusts);
      guard.met(address);
      // Nobody guesses a cookie: who was signed in must be able to reach the page where one signs in again.
      if (!(err instanceof SessionEnded)) await guard.failed(address);
      void record(denied, headers, address, err);
      throw err;
    }
  };

const record = (denied: WatchOptions["denied"], headers: Headers, address: string, err: HubError): Promise<void> => {
  const event = {
    action: err.code === "broker_auth_failed" ? "runtime_broker_auth_failure" : "auth_failure",
    reason: err.message,
    targetType: "hub",
  };
  if (currentActor()) return denied(event);
  return actingAs(
    () => auditActor(NOBODY, { headers, address, requestId: undefined }),
    () => denied(event),
  );
};
