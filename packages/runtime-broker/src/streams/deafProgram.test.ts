import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { FakeHub, type FakeTerminal } from "../testing/fakeHub.ts";
import { createBody, type Joined, joinedBroker, messageBody, PROJECT, query } from "../testing/setup.ts";

/** Programs that do not read what is typed. */

const HARNESSES = {
  /** Prints on and on, and reads nothing until a file is there; then it says how much there was. */
  deaf: {
    command: "sh",
    args: [
      "-c",
      'stty raw -echo; echo up; while ! [ -e "$HOME/listen" ]; do echo tick; sleep 0.05; done; head -c "$(cat "$HOME/listen")" | wc -c; echo heard; cat',
    ],
    taskArgs: [],
  },
  /** Asks the terminal where its cursor is, a hundred thousand times, and does not read the answers. */
  asking: {
    command: "sh",
    args: ["-c", "stty raw -echo; yes \"$(printf '\\033[6n')\" | head -n 100000; echo asked; sleep 1000"],
    taskArgs: [],
  },
};

/** A terminal holds some kilobytes for a program that does not read. */
const HELD_BY_KERNEL = 200_000;
const PIECE = Buffer.alloc(32_768, "x").toString("base64");

let joined: Joined;
let names = 0;
beforeAll(async () => {
  const hub = new FakeHub();
  hub.streamWindowBytes = 1_048_576;
  joined = await joinedBroker({ harnesses: JSON.stringify(HARNESSES) }, { hub });
});
afterAll(() => joined.stop());

const agent = async (harnessConfig: string): Promise<{ slug: string; terminal: FakeTerminal }> => {
  const slug = `d${++names}`;
  const body = createBody(slug, { config: { harnessConfig } });
  expect((await joined.session.request("POST", "/api/v1/agents", { body })).status).toBe(201);
  return { slug, terminal: joined.session.terminal(slug, PROJECT) };
};

const type = (terminal: FakeTerminal, pieces: number): void => {
  for (let n = 0; n < pieces; n += 1) joined.session.send({ type: "stream", streamId: terminal.streamId, data: PIECE });
};

const exec = (slug: string, ...command: string[]) =>
  joined.session.request("POST", `/api/v1/agents/${slug}/exec`, { query, body: { command } });

const ticks = (terminal: FakeTerminal): number => terminal.output.split("tick").length;

test("what a deaf program is typed waits outside of it, and is not credited; its output and its agent's calls go on", async () => {
  const { slug, terminal } = await agent("deaf");
  await terminal.shows("up");
  type(terminal, 32);
  const before = ticks(terminal);
  await joined.session.frame.next(() => ticks(terminal) > before + 20);
  expect(terminal.credited).toBeLessThan(HELD_BY_KERNEL);

  const refused = await joined.session.request("POST", `/api/v1/agents/${slug}/message`, {
    query,
    body: messageBody("are you there", "m-deaf"),
  });
  expect([refused.status, refused.text.includes("does not read")]).toEqual([409, true]);

  await exec(slug, "sh", "-c", `echo ${32 * 32_768} > "$HOME/listen"`);
  await terminal.shows("heard");
  expect(terminal.output).toContain(String(32 * 32_768));
  expect(terminal.credited).toBe(32 * 32_768);
  const message = { query, body: messageBody("are you there", "m-deaf") };
  expect((await joined.session.request("POST", `/api/v1/agents/${slug}/message`, message)).status).toBe(200);
  await terminal.shows("are you there");
});

test("a hub that types on without credits is told so at the bound, and other viewers stay", async () => {
  const { slug, terminal } = await agent("deaf");
  const other = joined.session.terminal(slug, PROJECT);
  await Promise.all([terminal.shows("up"), other.shows("up")]);
  type(terminal, 300);
  expect(await terminal.closed).toMatchObject({ code: 1009, reason: "input_overflow" });
  const before = ticks(other);
  await joined.session.frame.next(() => ticks(other) > before + 3);
});

test("answers that a program asked for and does not read do not stop it", async () => {
  const { slug } = await agent("asking");
  for (let text = ""; !text.includes("asked"); )
    text = (await joined.session.request("GET", `/api/v1/agents/${slug}/logs`, { query })).text;
});
