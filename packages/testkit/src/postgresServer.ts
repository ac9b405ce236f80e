import { startEmbeddedPostgres } from "./embeddedPostgres.ts";

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
    const container = await new PostgreSqlContainer("postgres:18")
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
