import { expect, test } from "@jest/globals";
import { eventually, patternBytes } from "@rootstock/testkit";
import { MIB, Stages, WAYS } from "./stage.ts";

/** Readers that do not read, and programs that do not (design section 8: no unbounded buffer, end to end). */

const stages = new Stages();

/** For megabytes on a machine that does other things, too. */
const PATIENCE_MS = 60_000;

test.each(WAYS)(
  "through the %s replica: the writer stops, others go on, and nothing is lost when reading resumes",
  async (where) => {
    const s = await stages.stage();
    const slow = await stages.attach(s[where], s.agent, { discard: true });
    const quick = await stages.attach(s[where], s.agent);
    const [flooded, typing] = [await s.terminals.nth(0), await s.terminals.nth(1)];
    // Sockets' buffers in the kernel take about 8 MiB on the way, the windows 1 MiB.
    const total = (where === "detour" ? 16 : 32) * MIB;
    let at = 0;
    let faults = 0;
    slow.onOutput.on((data) => {
      if (!data.equals(patternBytes(at, data.byteLength))) faults += 1;
      at += data.byteLength;
    });
    slow.pause();
    const flood = flooded.flood(total);
    await eventually(() => flooded.stalled, PATIENCE_MS);
    expect(flooded.printed).toBeLessThan(total * 0.75);
    for (let n = 0; n < 20; n += 1) {
      const typed = typing.onInput.next();
      quick.type(`key ${n};`);
      await typed;
      typing.print(`shown ${n};`);
      await quick.shows(`shown ${n};`);
    }
    slow.resume();
    await flood;
    await eventually(() => slow.received === total, PATIENCE_MS);
    expect(faults).toBe(0);
  },
  2 * PATIENCE_MS,
);

test.each(WAYS)(
  "an unmodified runtime broker, through the %s replica: closed at the bound, the others untouched",
  async (where) => {
    const s = await stages.stage({ like: "unmodified" });
    const slow = await stages.attach(s[where], s.agent, { discard: true });
    const quick = await stages.attach(s[where], s.agent);
    const [flooded, other] = [await s.terminals.nth(0), await s.terminals.nth(1)];
    slow.pause();
    const flood = flooded.flood(256 * MIB);
    expect(await flooded.closed).toMatchObject({ code: 1013, reason: "slow_consumer" });
    await flood;
    expect(flooded.printed).toBeLessThan(128 * MIB);
    slow.resume();
    expect(await slow.closed).toEqual({ code: 1013, reason: "slow_consumer" });
    other.print("still here");
    await quick.shows("still here");
    expect(s.runtimeBroker.closes).toEqual([]);
  },
  2 * PATIENCE_MS,
);

test.each(WAYS)(
  "a program that takes no input, through the %s replica: the viewer's socket is not read",
  async (where) => {
    const s = await stages.stage();
    const client = await stages.attach(s[where], s.agent);
    const other = await stages.attach(s[where], s.agent);
    const [deaf, terminal] = [await s.terminals.nth(0), await s.terminals.nth(1)];
    deaf.holdInput();
    const piece = Buffer.alloc(32_768, "x");
    // Far more than sockets and windows take.
    for (let n = 0; n < 600; n += 1) client.type(piece);
    await eventually(() => deaf.inputBytes > 0);
    const unsent: number[] = [];
    for (let n = 0; n < 20; n += 1) {
      const typed = terminal.onInput.next();
      other.type("through");
      await typed;
      unsent.push(client.unsentBytes);
    }
    expect(unsent.at(-1)).toBeGreaterThan(MIB);
    expect(deaf.inputBytes).toBeLessThan(MIB / 4);
    deaf.takeInput();
    // All of it; through the database that would take a while.
    const rest = where === "detour" ? 2 * MIB : 600 * piece.byteLength;
    await eventually(() => deaf.inputBytes >= rest, PATIENCE_MS);
  },
  2 * PATIENCE_MS,
);
