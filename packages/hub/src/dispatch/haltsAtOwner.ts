import type { Uuid } from "@rootstock/protocol";
import { z } from "zod";
import type { PeerCalls } from "../sockets/index.ts";
import { storedFailure } from "./operations/index.ts";

/** Where replicas have each other halt agents, in HTTP. */
export const INTERNAL_HALTS_PATH = "/internal/v1/halts";
/** The same call over a socket between replicas. */
export const HALT_CALL = "halt";

/** Who asked for it, for the audit log. */
const auditActor = z.object({
  kind: z.string().min(1),
  id: z.string().optional(),
  email: z.string().optional(),
  credential: z.string().optional(),
  credentialId: z.string().optional(),
  address: z.string().optional(),
  userAgent: z.string().optional(),
  requestId: z.string().optional(),
});

/** A stop or suspend that another replica has accepted. */
export const haltRequest = z.object({
  id: z.uuid(),
  op: z.enum(["stop", "suspend"]),
  agentId: z.uuid(),
  agentSlug: z.string().min(1),
  projectId: z.uuid(),
  runtimeBrokerId: z.uuid(),
  createdBy: z.uuid().optional(),
  traceparent: z.string().optional(),
  stamp: z.string().optional(),
  /** The replica that accepted it. */
  acceptedBy: z.uuid(),
  actor: auditActor.optional(),
});
export type HaltRequest = z.infer<typeof haltRequest>;

/** How it ended at the owner. */
export const haltReply = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("done"),
    result: z.record(z.string(), z.unknown()),
    /** As clients are shown it. */
    shown: z.record(z.string(), z.unknown()).optional(),
  }),
  z.object({ kind: z.literal("failed"), failure: storedFailure }),
]);
export type HaltReply = z.infer<typeof haltReply>;

/** So long the owner's answer is waited for before the row is. An owner that halts for half as long says so, and tells of the end by a signal. */
export const OWNER_ANSWERS_WITHIN_MS = 2_000;

const OK = 200;
const CONFLICT = 409;

/**
 * Has the replica that holds the socket halt an agent (design section 8): one call in the place of two signals and a
 * claim. The owner commits the intent before it acts, as it would for a caller of its own, so that whatever becomes of
 * the call, the row under the same id says what became of the halt.
 */
export class HaltsAtOwner {
  readonly #calls: Pick<PeerCalls, "call" | "leaveAlone">;

  constructor(calls: Pick<PeerCalls, "call" | "leaveAlone">) {
    this.#calls = calls;
  }

  /** Undefined when the owner did not take it, or nobody knows: then the row is to be made, or found, and waited for. */
  async halt(owner: Uuid, body: HaltRequest): Promise<HaltReply | undefined> {
    const timeoutMs = OWNER_ANSWERS_WITHIN_MS;
    const answer = await this.#calls.call(owner, { name: HALT_CALL, path: INTERNAL_HALTS_PATH, body, timeoutMs });
    const reply = answer?.status === OK ? haltReply.safeParse(answer.body).data : undefined;
    // 409: it does not hold the socket any more. Anything else it will not answer otherwise in a moment either.
    if (answer && !reply && answer.status !== CONFLICT) this.#calls.leaveAlone(owner);
    return reply;
  }
}
