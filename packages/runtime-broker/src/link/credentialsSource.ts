import type { Base, Service } from "@rootstock/service";
import type { Profile } from "../agents/agentView.ts";
import type { RuntimeBrokerConfig } from "../config.ts";
import { type Credentials, CredentialsStore, hashJoinToken } from "./credentials.ts";
import { JoinRefused, joinHub } from "./join.ts";

/** Who this runtime broker is at the hub: joined once with a token, read from disk ever after. */
export class CredentialsSource implements Service {
  readonly #base: Base;
  readonly #config: RuntimeBrokerConfig;
  readonly #profiles: () => Promise<readonly Profile[]>;
  readonly #store: CredentialsStore;
  #current: Credentials | undefined;
  #abort = new AbortController();

  constructor(base: Base, config: RuntimeBrokerConfig, profiles: () => Promise<readonly Profile[]>) {
    this.#base = base;
    this.#config = config;
    this.#profiles = profiles;
    this.#store = new CredentialsStore(config.stateDirectory);
  }

  /** @throws Error when there are no credentials and no way to get some; JoinRefused when the hub refuses the token */
  async start(): Promise<void> {
    this.#abort = new AbortController();
    const { hubUrl, joinToken, brokerId } = this.#config;
    const stored = await this.#store.read(hubUrl);
    this.#current = stored;
    if (joinToken === undefined || hubUrl === undefined || brokerId === undefined) {
      if (!stored)
        throw new Error(
          "no credentials for a hub are stored: a join token, a broker id and the hub's URL are needed once",
        );
      return;
    }
    // A token works once. The one that brought the stored credentials is still in the environment of later starts.
    if (stored?.brokerId === brokerId && stored.joinTokenHash === hashJoinToken(joinToken)) return;
    const join = { hubUrl, joinToken, brokerId, profiles: await this.#profiles() };
    try {
      this.#current = await joinHub(this.#base, this.#store, join, this.#abort.signal);
    } catch (err) {
      if (!(err instanceof JoinRefused) || !stored) throw err;
      this.#base.log.warn({ err }, "join refused, going on with the stored credentials");
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
  }

  /** The credentials in force. @throws Error before `start` */
  get current(): Credentials {
    if (!this.#current) throw new Error("not started");
    return this.#current;
  }

  /** Looks at the file again: a key that was exchanged on disk counts from the next dial on. */
  async refresh(): Promise<Credentials> {
    this.#current = (await this.#store.read(this.#config.hubUrl)) ?? this.current;
    return this.#current;
  }
}
