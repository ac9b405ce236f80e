import { EventEmitter } from "node:events";
import { Logger, type Runner, run } from "graphile-worker";
import pg from "pg";
import { Samples } from "../samples.ts";
import { serveWorker } from "../worker.ts";

/** Yardstick: graphile-worker, from the commit of a job to its end, adders and runner in one process. */

export interface JobRun {
  readonly done: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
}

let runner: Runner | undefined;
let pool: pg.Pool | undefined;
let last = 0;
const waiting = new Map<number, () => void>();

const ADD = "select graphile_worker.add_job('bench', json_build_object('n', $1::int, 'text', $2::text))";

serveWorker({
  start: async (p: { readonly databaseUrl: string; readonly concurrency: number }) => {
    pool = new pg.Pool({ connectionString: p.databaseUrl, max: 20 });
    const events = new EventEmitter();
    // The job has ended when that is written down, not when its task has returned.
    events.on("job:complete", ({ job }: { job: { payload: { n: number } } }) => {
      waiting.get(job.payload.n)?.();
      waiting.delete(job.payload.n);
    });
    runner = await run({
      connectionString: p.databaseUrl,
      concurrency: p.concurrency,
      noHandleSignals: true,
      events,
      logger: new Logger(() => () => {}),
      taskList: { bench: () => {} },
    });
  },
  /** Adds jobs, each sender the next when the one before is done. */
  run: async (p: { readonly senders: number; readonly seconds: number }): Promise<JobRun> => {
    const samples = new Samples();
    const started = performance.now();
    const until = started + p.seconds * 1000;
    const sender = async () => {
      while (performance.now() < until) {
        last += 1;
        const n = last;
        const done = new Promise<void>((resolve) => waiting.set(n, resolve));
        const from = performance.now();
        await pool?.query(ADD, [n, "a line of text"]);
        await done;
        samples.add(performance.now() - from);
      }
    };
    await Promise.all(Array.from({ length: p.senders }, sender));
    return {
      done: samples.count,
      seconds: (performance.now() - started) / 1000,
      p50: samples.p50,
      p99: samples.p99,
    };
  },
  end: async () => {
    await runner?.stop();
    await pool?.end();
  },
});
