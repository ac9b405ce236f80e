import { expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { leftByMinorCollections } from "@rootstock/testkit";
import { Fresh } from "./fresh.ts";

test("what is forgotten goes with the next small collection, and is not kept until a full one", async () => {
  const fresh = new Fresh(systemClock, 2_000, async () => Array.from({ length: 5_000 }, (_, i) => i));
  const left = await leftByMinorCollections(1_000, async () => {
    await fresh.get("somebody");
    fresh.forgetAll();
  });
  expect(left).toBeLessThan(5);
});
