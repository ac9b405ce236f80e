import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const WARM_UP = 50;

/**
 * Runs `work` so often, and tells how many megabytes more small collections leave of it than of a single run. Garbage that
 * only a full collection takes is copied by each small one until then: for 20 ms instead of half a millisecond.
 */
export const leftByMinorCollections = async (times: number, work: () => Promise<unknown>): Promise<number> => {
  setFlagsFromString("--expose-gc");
  const collect: (options: { readonly type: "minor" | "major" }) => void = runInNewContext("gc");
  const usedAfter = async (runs: number): Promise<number> => {
    for (let i = 0; i < runs; i += 1) await work();
    // What has survived one goes to the old generation at the next.
    collect({ type: "minor" });
    collect({ type: "minor" });
    return process.memoryUsage().heapUsed / 1e6;
  };
  await usedAfter(WARM_UP);
  collect({ type: "major" });
  const before = await usedAfter(1);
  return (await usedAfter(times)) - before;
};
