import {
  type Compilable,
  CompiledQuery,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type RawBuilder,
  sql,
} from "kysely";
import type { Db } from "./database.ts";
import type { Tables } from "./tables.ts";

/** Makes text of statements, and reaches no database. */
const compiler = new Kysely<Tables>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
});

/** The place of a value in a statement. */
class Slot<P> {
  readonly read: (p: P) => unknown;

  constructor(read: (p: P) => unknown) {
    this.read = read;
  }
}

/** Puts a value of a run into a statement: what `read` takes from what the run is given. */
export type Given<P> = <V>(read: (p: P) => V) => RawBuilder<V>;

/**
 * A statement whose text is made once, for those that run for every message: made anew for each run, a text of some forty
 * lines costs more than everything else that this process does for it. `build` is told nothing of a run but what `given`
 * puts in, so that every run has the same text. `db` is for those that are put together by a builder.
 */
export const statement = <P, Row>(
  build: (given: Given<P>, db: Db) => RawBuilder<Row> | Compilable<Row>,
): ((db: Db, p: P) => Promise<QueryResult<Row>>) => {
  const built = build((read) => sql`${new Slot(read)}`, compiler);
  const { sql: text, parameters } = "isRawBuilder" in built ? built.compile(compiler) : built.compile();
  const places = parameters.map((value) => (value instanceof Slot ? (value as Slot<P>) : new Slot<P>(() => value)));
  return (db, p) =>
    db.executeQuery(
      CompiledQuery.raw(
        text,
        places.map(({ read }) => read(p)),
      ) as CompiledQuery<Row>,
    );
};
