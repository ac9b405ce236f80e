import { Batcher, systemClock } from "@rootstock/service";
import pg from "pg";
import { serveWorker } from "../worker.ts";
import { serveForwarding } from "./forwarding.ts";

/**
 * Floor: a do-nothing hub that stores what it is given, and no more: each message is one row of two columns, committed
 * before it is forwarded, and never looked at again. What comes during a commit goes with the next one.
 */

interface Row {
  readonly id: string;
  readonly text: string;
}

serveWorker({
  listen: async (databaseUrl: string) => {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query("create table bench_stored (id uuid primary key, text text not null)");
    const rows = new Batcher<Row, true>(systemClock, { windowMs: 0, maxItems: 64, concurrency: 1 }, async (batch) => {
      await client.query({
        name: "store",
        text: "insert into bench_stored select * from unnest($1::uuid[], $2::text[])",
        values: [batch.map(({ id }) => id), batch.map(({ text }) => text)],
      });
      return batch.map(() => true);
    });
    return serveForwarding((id, body) => rows.add({ id, text: body.toString() }));
  },
});
