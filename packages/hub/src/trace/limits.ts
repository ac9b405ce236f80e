/** The limits by which a trace tells what will happen when. Seconds. */
export interface TraceLimits {
  /** How long an undelivered message waits for its agent. */
  readonly messageSeconds: number;
  /** How long a deleted agent can be restored; what waits for it then fails. */
  readonly softDeleteSeconds: number;
  /** How long one attempt waits for the runtime broker's answer. */
  readonly requestSeconds: number;
  /** How long after `running` an agent that has reported nothing is taken to listen. */
  readonly listensAfterSeconds: number;
  /** How long an operation may be under way. */
  readonly overdueSeconds: number;
}
