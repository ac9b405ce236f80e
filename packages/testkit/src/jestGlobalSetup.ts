import { type PostgresServer, startPostgresServer } from "./postgresServer.ts";

declare global {
  var rootstockTestServer: PostgresServer | undefined;
}

/** Starts the run's PostgreSQL once; workers find it in TEST_DATABASE_URL. */
export default async function setup(): Promise<void> {
  const server = await startPostgresServer();
  globalThis.rootstockTestServer = server;
  process.env.TEST_DATABASE_URL = server.url;
}
