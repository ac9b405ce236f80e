/** What proves a caller's identity: everything of a request that a signature or a token may be checked against. */
export interface Credentials {
  readonly method: string;
  /** Percent-decoded. */
  readonly path: string;
  /** Raw query without `?`. */
  readonly query: string;
  readonly headers: Headers;
  /** The address of the other end of the connection: what a header is believed by. Empty where there is none. */
  readonly peer: string;
  /** Reads the body; only signed requests need it before they are known. */
  readonly body: () => Promise<Uint8Array>;
}
