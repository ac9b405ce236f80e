import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Scene } from "@rootstock/testkit";
import { covers, EXCEPTIONS } from "./traffic/exceptions.ts";
import type { Finding } from "./traffic/findings.ts";
import { play, STORIES } from "./traffic/stories.ts";

/** The recorded exchanges of the original, replayed against two replicas on one database, calls in turn. */

const scenes: Scene[] = [];
const findings: Finding[] = [];

beforeAll(async () => {
  // Twice: each call once reaches the replica that holds the runtime broker's socket, and once the other.
  for (const first of [0, 1] as const)
    for (const story of STORIES) {
      const scene = await Scene.create();
      scenes.push(scene);
      const replay = await play(scene, story, first);
      findings.push(...replay.findings.all);
    }
}, 180_000);

afterAll(async () => {
  for (const scene of scenes) await scene.end();
});

const unexpected = (of: (finding: Finding) => boolean): string[] => [
  ...new Set(
    findings
      .filter((f) => of(f) && !EXCEPTIONS.some((e) => covers(e, f)))
      .map(({ where, what }) => `${where}: ${what}`),
  ),
];

test.each(STORIES.flatMap((story) => story.flows))("%s is answered as it was recorded", (flow) => {
  expect(unexpected((finding) => finding.flows.includes(flow))).toEqual([]);
});

test("the hub asks nothing that was not recorded", () => {
  expect(unexpected((finding) => finding.flows.length === 0)).toEqual([]);
});

test.each(EXCEPTIONS)("needed: $where: $what", (exception) => {
  expect(findings.some((finding) => covers(exception, finding))).toBe(true);
});
