import { systemRandom } from "@rootstock/service";
import { startEmbeddedPostgres } from "./embeddedPostgres.ts";
import { noteSecrets } from "./runRecord.ts";

/** The PostgreSQL that a test run uses, and how to give it back. */
export interface PostgresServer {
  readonly url: string;
  stop(): Promise<void>;
}

const dockerRuns = async (): Promise<boolean> => {
  try {
    const { getContainerRuntimeClient } = await import("testcontainers");
    await getContainerRuntimeClient();
    return true;
  } catch {
    return false;
  }
};

/** `TEST_DATABASE_URL` if set, else a container where Docker runs, else the embedded server. */
export const startPostgresServer = async (): Promise<PostgresServer> => {
  const given = process.env.TEST_DATABASE_URL;
  if (given) return { url: given, stop: async () => {} };
  if (await dockerRuns()) {
    const { PostgreSqlContainer } = await import("@testcontainers/postgresql");
    const password = systemRandom.bytes(18).toString("base64url");
    noteSecrets(password);
    const container = await new PostgreSqlContainer("postgres:18")
      .withPassword(password)
      .withCommand(["postgres", "-c", "fsync=off", "-c", "max_connections=400"])
      .start();
    return {
      url: container.getConnectionUri(),
      stop: async () => {
        await container.stop();
      },
    };
  }
  return startEmbeddedPostgres();
};
