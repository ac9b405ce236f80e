import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type PostgresServer, startPostgresServer } from "./postgresServer.ts";

declare global {
  var rootstockTestServer: PostgresServer | undefined;
}

/** Starts the run's PostgreSQL once; workers find it in TEST_DATABASE_URL. What is logged is kept until the end. */
export default async function setup(): Promise<void> {
  // First: what starts is recorded there.
  process.env.TEST_RUN_DIRECTORY = mkdtempSync(join(tmpdir(), "rootstock-test-run-"));
  const server = await startPostgresServer();
  globalThis.rootstockTestServer = server;
  process.env.TEST_DATABASE_URL = server.url;
}
