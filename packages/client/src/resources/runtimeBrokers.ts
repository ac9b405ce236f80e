import type { Http } from "../http.ts";

/** A runtime broker as the hub shows it (spec/01 1.1); the fields that this client's users read. */
export interface RuntimeBrokerRecord {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly connectionState?: string;
  readonly connectedHubId?: string;
  readonly autoProvide?: boolean;
  readonly version?: string;
  readonly lastHeartbeat?: string;
}

/** The answer to a registration (spec/01 1.2). The id may differ from the one asked for. */
export interface JoinTicket {
  readonly brokerId: string;
  /** Good once, until `expiresAt`. A secret. */
  readonly joinToken: string;
  readonly expiresAt: string;
  readonly reregistered?: boolean;
}

/** Runtime brokers (spec/01 section 1). */
export class RuntimeBrokers {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(
    filter: { readonly name?: string; readonly status?: string; readonly projectId?: string } = {},
  ): Promise<readonly RuntimeBrokerRecord[]> {
    const page = await this.#http.json<{ readonly brokers: readonly RuntimeBrokerRecord[] | null }>(
      "GET",
      "/api/v1/runtime-brokers",
      { query: filter },
    );
    return page.brokers ?? [];
  }

  get(id: string): Promise<RuntimeBrokerRecord> {
    return this.#http.json("GET", `/api/v1/runtime-brokers/${encodeURIComponent(id)}`);
  }

  /**
   * Registers a runtime broker, or an existing one of the same name anew, and returns the token with which it joins.
   * With `autoProvide` every project may use it.
   */
  register(request: {
    readonly name: string;
    readonly brokerId?: string | undefined;
    readonly autoProvide?: boolean | undefined;
    readonly labels?: Readonly<Record<string, string>> | undefined;
  }): Promise<JoinTicket> {
    return this.#http.json("POST", "/api/v1/brokers", { body: request });
  }
}
