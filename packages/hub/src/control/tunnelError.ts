/**
 * `not_sent`: certainly not executed. `lost`, `timeout`: sent, and nobody knows whether it was executed.
 * `too_large`: can never pass this socket.
 */
export type TunnelFailure = "not_sent" | "lost" | "timeout" | "too_large";

/** A request through a runtime broker's socket that got no answer. */
export class TunnelError extends Error {
  override readonly name = "TunnelError";
  readonly kind: TunnelFailure;

  constructor(kind: TunnelFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}
