import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type OwnedPostgres, startEmbeddedPostgres } from "@rootstock/testkit";
import { runRound } from "./chaos/round.ts";
import { tell } from "./chaos/schedule.ts";
import { Versions } from "./chaos/versions.ts";

/** The short form of `npm run chaos`: one round with a fixed seed, the next release beside this code. */

const SEED = 7;

const versions = new Versions();
let postgres: OwnedPostgres;
beforeAll(async () => {
  postgres = await startEmbeddedPostgres();
});
afterAll(async () => {
  await postgres.stop();
  await versions.remove();
});

test("a short round of faults under load keeps every promise", async () => {
  const { breaches, schedule, figures } = await runRound(postgres, {
    seed: SEED,
    seconds: 8,
    replicas: 3,
    runtimeBrokers: 6,
    senders: 4,
    codes: await versions.beside("next"),
  });
  const told = `seed ${SEED}, replay with: npm run chaos -- --rounds 1 --seed ${SEED} --seconds 8 --replicas 3 --runtime-brokers 6 --senders 4 --beside next\n${tell(schedule)}`;
  expect({ breaches, told }).toEqual({ breaches: [], told });
  expect(figures.received).toBeGreaterThan(50);
  expect(figures.executions).toBeGreaterThan(10);
  expect(figures.faults).toBeGreaterThan(3);
}, 300_000);
