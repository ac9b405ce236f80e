import type { Random } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import type { Answer, KeyedCall } from "../actions/index.ts";
import type { ExactCounts } from "../limits/index.ts";
import type { AgentConfigs } from "../secrets/index.ts";
import { json, type Reply } from "./route.ts";

/** What the routes of stored resources work with. */
export interface ResourceDeps {
  readonly db: Db;
  readonly random: Random;
  /** Called after a commit that touched what the change feed shows. */
  readonly changed: () => void;
  /**
   * A position of the event stream no later than now. A list that was read after it, and the events after it, leave
   * nothing out (spec/07 B.6).
   */
  readonly feedCursor: () => string;
  /** Counts of long lists, for those who ask for them. */
  readonly exactCounts: Pick<ExactCounts, "of">;
  /** What agents' configurations give their containers. */
  readonly agentConfigs: AgentConfigs;
  /** Runs `work` in one transaction; a repeated call with the same Idempotency-Key gets the first one's answer. */
  readonly once: (call: KeyedCall, work: (tx: Db) => Promise<Answer>) => Promise<Answer>;
}

/** A create: its effects and its answer are one transaction, and the same key again changes nothing. */
export const createOnce = async (
  deps: ResourceDeps,
  call: KeyedCall,
  work: (tx: Db) => Promise<Answer>,
): Promise<Reply> => {
  const answer = await deps.once(call, work);
  deps.changed();
  return json(answer.status, answer.body);
};
