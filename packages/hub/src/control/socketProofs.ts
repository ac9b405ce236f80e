import type { KeyObject } from "node:crypto";
import type { Uuid } from "@rootstock/protocol";
import { type Base, onceAt, type Service, type Timer } from "@rootstock/service";
import type { Registry } from "./registry.ts";

export interface SocketProofsDeps {
  readonly registry: Pick<Registry, "held">;
  /** The secrets of a runtime broker. `RuntimeBrokerSecrets` gives them. */
  readonly secretsOf: (
    runtimeBrokerId: Uuid,
  ) => Promise<readonly { readonly key: KeyObject; readonly proves: boolean; readonly until?: number | undefined }[]>;
}

/** The close code of a socket that its runtime broker could not open any more (RFC 6455: policy violation). */
const CLOSE_REFUSED = 1008;
/** After so long, in milliseconds, a look that has failed is repeated. */
const REPEAT_MS = 1_000;

/**
 * Ends the sockets that were opened with a secret which proves nothing any more: replaced, and the time over in which it
 * counts beside the new one. A runtime broker that has the new one redials at once.
 */
export class SocketProofs implements Service {
  readonly #base: Base;
  readonly #deps: SocketProofsDeps;
  /** The next looks, by runtime broker. */
  readonly #next = new Map<Uuid, Timer>();
  #changes = 0;
  #stopped = false;

  constructor(base: Base, deps: SocketProofsDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /** How often secrets have changed since the start: a dial that began before a change is looked at after it. */
  get changes(): number {
    return this.#changes;
  }

  async start(): Promise<void> {
    this.#stopped = false;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#next.values()) timer.cancel();
    this.#next.clear();
  }

  /** To be called when secrets of a runtime broker were replaced or have gone. Never rejects. */
  changed(runtimeBrokerId: Uuid): Promise<void> {
    this.#changes += 1;
    return this.look(runtimeBrokerId);
  }

  /** Looks whether a runtime broker's socket may stay, and again when its secret's time is over. Never rejects. */
  async look(runtimeBrokerId: Uuid): Promise<void> {
    const connection = this.#deps.registry.held(runtimeBrokerId);
    if (!connection || this.#stopped) return;
    try {
      const secrets = await this.#deps.secretsOf(runtimeBrokerId);
      const secret = secrets.find(({ proves, key }) => proves && key.equals(connection.key));
      if (!secret) connection.close(CLOSE_REFUSED, "the secret that this socket was opened with counts no more");
      else if (secret.until !== undefined) this.#lookAt(secret.until, runtimeBrokerId);
    } catch (err) {
      this.#base.log.warn({ err, runtimeBrokerId }, "secrets of a connected runtime broker not looked at");
      this.#lookAt(this.#base.clock.now() + REPEAT_MS, runtimeBrokerId);
    }
  }

  #lookAt(time: number, runtimeBrokerId: Uuid): void {
    if (this.#stopped) return;
    this.#next.get(runtimeBrokerId)?.cancel();
    const { clock } = this.#base;
    // The database says when it is over, by its own clock: not at once again where that is behind.
    const at = Math.max(time, clock.now() + 10);
    const timer = onceAt(clock, at, () => {
      this.#next.delete(runtimeBrokerId);
      void this.look(runtimeBrokerId);
    });
    this.#next.set(runtimeBrokerId, timer);
  }
}
