import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type OwnedPostgres, startEmbeddedPostgres } from "@rootstock/testkit";
import type { Breach } from "./breach.ts";
import { CHECKOUT, type Code } from "./codeCopy.ts";
import { type Circumstances, CONTROLS, MUTATIONS, type Mutation, mutate, SMALL } from "./mutations.ts";
import { runRound } from "./round.ts";

/**
 * Each protection of the product is taken away in a copy of it, and the checker has to name what follows; under the same
 * circumstances it has nothing to say of the product as it is.
 */

/** Rounds under way at a time: most of one is waiting. */
const LANES = 2;
/** A breach is a race: in so many rounds it has to show. */
const ROUNDS = 3;

const round = async (when: Circumstances, seed: number, code: Code): Promise<readonly Breach[]> =>
  (await runRound(postgres, { ...SMALL, ...when, seed, codes: [code] })).breaches;

const rulesBroken = async (mutation: Mutation, seed: number): Promise<string[]> => {
  const code = await mutate(mutation);
  try {
    const seen = new Set<string>();
    for (let n = 0; n < ROUNDS && !seen.has(mutation.breaks); n += 1)
      for (const { rule } of await round(mutation.when, seed + n, code)) seen.add(rule);
    return [...seen];
  } finally {
    await code.remove();
  }
};

let postgres: OwnedPostgres;
const verdicts = new Map<string, Promise<readonly unknown[]>>();
let lanes: Promise<unknown>;

beforeAll(async () => {
  postgres = await startEmbeddedPostgres();
  const work: { name: string; judge: () => Promise<readonly unknown[]> }[] = [
    ...MUTATIONS.map((m, i) => ({ name: m.name, judge: () => rulesBroken(m, 100 * (i + 1)) })),
    ...CONTROLS.map(({ name, when }, i) => ({ name, judge: () => round(when, i + 1, CHECKOUT) })),
  ];
  const queue = work.map(({ name, judge }) => {
    let begin: () => void = () => {};
    const verdict = new Promise<void>((resolve) => {
      begin = resolve;
    }).then(judge);
    verdict.catch(() => {});
    verdicts.set(name, verdict);
    return { begin, over: verdict.catch(() => {}) };
  });
  const lane = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      next.begin();
      await next.over;
    }
  };
  lanes = Promise.all(Array.from({ length: LANES }, lane));
});
afterAll(async () => {
  await lanes;
  await postgres.stop();
});

describe("caught", () => {
  test.each(MUTATIONS)(
    "$name: $breaks",
    async ({ name, breaks }) => expect(await verdicts.get(name)).toContain(breaks),
    300_000,
  );
});

describe("nothing is caught in the product as it is", () => {
  test.each(CONTROLS)("$name", async ({ name }) => expect(await verdicts.get(name)).toEqual([]), 300_000);
});
