import { Database, type Db } from "@rootstock/store";
import { testBase } from "./storeStack.ts";
import { createTestDatabase, type TestDatabase } from "./testDatabase.ts";

/** A database of its own with a replica's pool of connections to it: for tests of what stands on statements alone. */
export interface TestStore extends TestDatabase {
  readonly database: Database;
  readonly db: Db;
  /** The pool of one more replica. */
  another(): Database;
  /** Ends all connections and drops the database. */
  drop(): Promise<void>;
}

/** Makes one. `poolSize`: of each replica, in connections. */
export const createTestStore = async ({ poolSize = 5 } = {}): Promise<TestStore> => {
  const test = await createTestDatabase();
  const pools: Database[] = [];
  const another = (): Database => {
    const pool = new Database({ url: test.url, pooled: false, poolSize, applicationName: "test", ...testBase() });
    pools.push(pool);
    return pool;
  };
  const database = another();
  return {
    ...test,
    database,
    db: database.db,
    another,
    drop: async () => {
      await Promise.all(pools.map((pool) => pool.stop()));
      await test.drop();
    },
  };
};
