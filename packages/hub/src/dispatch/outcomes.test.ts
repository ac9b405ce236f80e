import { expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import type { MessageOutcome } from "@rootstock/store";
import { testLog } from "@rootstock/testkit";
import { deliveredOutcome, Outcomes } from "./outcomes.ts";

const id = systemRandom.uuid();
const underWay: MessageOutcome = { id, state: "delivering", holdReason: null, error: null };

test("whoever comes to wait after the end was told, and before it is written, hears of it without signal and poll", async () => {
  let reads = 0;
  const outcomes = new Outcomes<MessageOutcome>(systemClock, testLog(), async () => {
    reads += 1;
    return [reads < 4 ? underWay : deliveredOutcome(id)];
  });
  const wait = outcomes.open(id, ({ state }) => state === "delivered");
  outcomes.lookAgain(id);
  expect(await wait.wait(10_000)).toEqual(deliveredOutcome(id));
  expect(reads).toBe(4);
});
