import type { ErrorCode, Uuid } from "@rootstock/protocol";
import type { Clock, Random } from "@rootstock/service";
import type { ConfigValues, Db, DispatchOp, DispatchTarget, HaltedPhase } from "@rootstock/store";
import { z } from "zod";
import type { TransportToken } from "../../auth/index.ts";
import type { Connection } from "../../control/index.ts";

/** What a caller is told of an operation that failed at the runtime broker. Travels in the intent's row. */
export interface OperationFailure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** A failure as it is written down, and told between replicas. */
export const storedFailure = z
  .object({
    code: z.enum(["runtime_error", "missing_env_vars", "not_found", "invalid_state"]),
    message: z.string(),
    details: z.record(z.string(), z.unknown()).optional(),
  })
  .transform(({ code, message, details }): OperationFailure => ({ code, message, ...(details && { details }) }));

/**
 * How an operation ended at the runtime broker, and what that does to the agent's row. `settle` runs in the transaction
 * that completes the intent, and only if the claim still stands.
 */
export type OperationResult =
  | {
      readonly ok: true;
      readonly result: Readonly<Record<string, unknown>>;
      readonly settle: (tx: Db) => Promise<void>;
      /** All that `settle` does is to record that the agent's run is over: it takes one statement together with the intent. */
      readonly halted?: HaltedPhase;
    }
  | { readonly ok: false; readonly failure: OperationFailure; readonly settle: (tx: Db) => Promise<void> };

/** Issues an agent's token for a container run. */
export type MintAgentToken = (target: DispatchTarget) => Promise<string>;

/** What lets an agent through what stands before the hub; undefined where nothing does, or none can be had. */
export type CurrentTransportToken = () => Promise<TransportToken | undefined>;

/** The values kept for an agent, decrypted. Throws `SecretBoxError`. */
export type KeptValues = (agentId: Uuid) => Promise<Readonly<Record<string, string>>>;

/** What an agent's configuration gives its container, decrypted. Throws `SecretBoxError`. */
export type ReadConfigValues = (agent: DispatchTarget["agent"]) => Promise<ConfigValues>;

/** What every operation works with. */
export interface OperationDeps {
  readonly db: Db;
  /** This replica. */
  readonly instanceId: Uuid;
  readonly clock: Clock;
  readonly random: Random;
  readonly mintAgentToken: MintAgentToken;
  readonly transportToken: CurrentTransportToken;
  readonly keptValues: KeptValues;
  readonly configValues: ReadConfigValues;
}

/** One attempt at one operation, on the replica that holds the socket. */
export interface OperationContext extends OperationDeps {
  /** The intent's id, or that of the direct call. A create repeats it as its `requestId`. */
  readonly id: Uuid;
  readonly op: DispatchOp;
  readonly target: DispatchTarget;
  readonly runtimeBroker: RuntimeBrokerOf;
  readonly args: Readonly<Record<string, unknown>>;
  /** 1 for the first; a later one asks before it repeats what must not happen twice. */
  readonly attempt: number;
  readonly connection: Connection;
  /** The span of this attempt. */
  readonly traceparent: string | undefined;
}

/** What an operation is about, by name: enough for whoever asks the runtime broker to end something. */
export interface Named {
  readonly agent: { readonly id: Uuid; readonly slug: string };
  readonly project: { readonly id: Uuid };
}

/** An operation that needs to know no more than names: nothing is read for it. */
export type NamedOperation = (
  context: Pick<OperationContext, "connection" | "traceparent"> & { readonly target: Named },
) => Promise<OperationResult>;

type RuntimeBrokerOf = NonNullable<DispatchTarget["runtimeBroker"]>;

export type Operation = (context: OperationContext) => Promise<OperationResult>;
