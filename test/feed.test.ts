import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, type InProcessReplica, Scene, TEST_TOKEN } from "@rootstock/testkit";

let scene: Scene;
let one: InProcessReplica;
let other: InProcessReplica;

beforeEach(async () => {
  scene = await Scene.create();
  one = await scene.replica();
  other = await scene.replica();
});
afterEach(() => scene.end());

/** Reads the stream until an event of `subject` comes, and returns the subjects before and with it. */
const subjectsUntil = async (replica: InProcessReplica, after: string, subject: string): Promise<string[]> => {
  const response = await fetch(`${replica.url}/events?sub=project.>&after=${after}`, {
    headers: { authorization: `Bearer ${TEST_TOKEN}` },
  });
  const seen: string[] = [];
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString();
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
      text = text.slice(end + 2);
      if (data) seen.push(JSON.parse(data).subject);
      if (seen.at(-1) === subject) return seen;
    }
  }
  return seen;
};

test("a list and the events after its cursor leave nothing out, whichever replica gives which", async () => {
  const first = await scene.project(one, "first");
  const list = await api(one, "GET", "/api/v1/projects");
  const second = await scene.project(other, "second");
  const known = list.list("projects").map((p) => (p as { id: string }).id);
  const told = await subjectsUntil(other, list.text("feedCursor"), `project.${second}.created`);
  expect(known).toEqual([first]);
  expect(told.filter((s) => s.endsWith(".created")).at(-1)).toBe(`project.${second}.created`);
});
