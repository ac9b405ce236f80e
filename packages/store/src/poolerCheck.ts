import pg from "pg";

/** A value that nobody would have set otherwise, in milliseconds. */
const OWN_LIMIT_MS = 86_399_000;
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Whether `url` leads through a pooling proxy: such a one refuses start-up parameters that it cannot keep apart for its
 * clients, or swallows them when it was told to. False when nobody answers.
 */
export const leadsThroughPooler = async (url: string): Promise<boolean> => {
  const client = new pg.Client({
    connectionString: url,
    statement_timeout: OWN_LIMIT_MS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: CONNECT_TIMEOUT_MS,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ ms: string }>(
      "select setting as ms from pg_settings where name = 'statement_timeout'",
    );
    return rows[0]?.ms !== String(OWN_LIMIT_MS);
  } catch (err) {
    return err instanceof pg.DatabaseError && err.code === "08P01";
  } finally {
    await client.end().catch(() => {});
  }
};
