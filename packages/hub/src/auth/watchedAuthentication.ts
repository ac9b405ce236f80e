import { HubError } from "@rootstock/protocol";
import { type AuditEvent, actingAs, currentActor } from "@rootstock/store";
import { auditActor } from "./auditActor.ts";
import { addressGroup, clientAddress } from "./clientAddress.ts";
import type { Credentials } from "./credentials.ts";
import { NOBODY } from "./principal.ts";

/** Who keeps people from trying out credentials. */
export interface Guard {
  /** Whether any address has failed lately. */
  readonly watching: boolean;
  /** Of an address that has failed too often: what to throw when this fails as well. Throws 429 for what might be guessed. */
  admit(address: string, headers: Headers): (() => Error) | undefined;
  succeeded(headers: Headers): void;
  failed(address: string): void;
}

export interface WatchOptions {
  /** Records that somebody was refused. */
  readonly denied: (event: Omit<AuditEvent, "success">) => Promise<void>;
  /** Whether what this peer says about the client may be believed. */
  readonly trusts: (address: string) => boolean;
  /** Undefined: failures are not counted. */
  readonly guard: Guard | undefined;
}

type Request = Pick<Credentials, "headers" | "peer">;

/** `verify`, with every refused credential recorded and counted, until its address has failed too often. */
export const watched = <R extends Request, T>(
  { denied, trusts, guard }: WatchOptions,
  verify: (request: R) => Promise<T>,
): ((request: R) => Promise<T>) => {
  const addressOf = ({ headers, peer }: Request) => clientAddress(peer, headers.get("x-forwarded-for"), trusts);
  return async (request) => {
    // Most of the time nobody fails, and nobody's address needs to be known.
    const limited = guard?.watching ? guard.admit(addressGroup(addressOf(request)), request.headers) : undefined;
    try {
      const proven = await verify(request);
      guard?.succeeded(request.headers);
      return proven;
    } catch (err) {
      if (err instanceof HubError && err.status === 401) {
        if (limited) throw limited();
        const address = addressOf(request);
        guard?.failed(addressGroup(address));
        void record(denied, request.headers, address, err);
      }
      throw err;
    }
  };
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
