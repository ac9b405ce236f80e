import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { decodePosition, encodePosition, type Position, PositionEncoder } from "./position.ts";
import { includes, isVisible, parseSnapshot, type Snapshot } from "./snapshot.ts";
import { isPattern, matches, SubjectIndex } from "./subjects.ts";

const snapshot = (text: string): Snapshot => {
  const parsed = parseSnapshot(text);
  if (!parsed) throw new Error(text);
  return parsed;
};

test("a snapshot shows what had committed and hides what was under way or later", () => {
  const s = snapshot("10:20:12,15");
  expect([9n, 10n, 12n, 13n, 15n, 19n, 20n, 99n].filter((tx) => isVisible(tx, s))).toEqual([9n, 10n, 13n, 19n]);
});

test.each([
  "",
  "1:2",
  "0:5:",
  "5:4:",
  "1:5:5",
  "1:5:3,2",
  "3:5:2",
  "1:2:x",
  "1:9223372036854775808:",
  "a:b:",
  "1:5:3,",
])("%p is no snapshot", (text) => expect(parseSnapshot(text)).toBeUndefined());

test("a later snapshot includes an earlier one, and not the other way round", () => {
  const before = snapshot("10:20:12,15");
  for (const later of ["10:20:12,15", "12:21:12", "21:21:", "15:30:15,25"])
    expect(includes(snapshot(later), before)).toBe(true);
  for (const earlier of ["12:19:12", "13:20:13", "10:20:12,13,15"])
    expect(includes(snapshot(earlier), before)).toBe(false);
});

test("a position survives the way through a client", () => {
  const epoch = systemRandom.uuid();
  const seen = snapshot("10:20:12,15");
  const target = snapshot("15:30:15,25");
  const positions: Position[] = [
    { epoch, seen },
    { epoch, seen, page: { target, id: "77" } },
    { epoch, seen, page: { target, id: "77", part: "" } },
    { epoch, seen, page: { target, id: "77", part: "p" } },
  ];
  for (const p of positions) expect(decodePosition(encodePosition(p))).toEqual(p);
});

test("positions encoded one after another are read as those encoded alone", () => {
  const epoch = systemRandom.uuid();
  const encoder = new PositionEncoder();
  for (const xmax of ["2", "20", "200", "2000"]) {
    const seen = snapshot(`1:${xmax}:`);
    const target = snapshot("3000:3000:");
    const page = (id: string, part?: string): Position => ({
      epoch,
      seen,
      page: { target, id, ...(part !== undefined && { part }) },
    });
    for (const p of [page("7"), page("77", ""), page("777", "p"), page("123456789012345678"), { epoch, seen: target }])
      expect(decodePosition(encoder.encode(p))).toEqual(p);
  }
});

test("what we did not make is no position", () => {
  const forged = (...fields: string[]) => Buffer.from(fields.join("|")).toString("base64url");
  const epoch = systemRandom.uuid();
  for (const token of [
    "",
    "17",
    "%%%",
    "x".repeat(70_000),
    forged(epoch),
    forged(epoch, "1:2"),
    forged("nobody", "1:2:"),
    forged(epoch, "1:2:", "1:3:"),
    forged(epoch, "1:2:", "1:3:", "-1"),
    forged(epoch, "1:2:", "1:3:", "9".repeat(30)),
    forged(epoch, "1:2:", "1:3:", "4", "p", "more"),
  ])
    expect(decodePosition(token)).toBeUndefined();
});

test("patterns: * is one token, a last > is one or more", () => {
  const hits: [string, string][] = [
    ["agent.1.status", "agent.1.status"],
    ["agent.*.status", "agent.1.status"],
    ["agent.>", "agent.1.status"],
    ["*.1.>", "agent.1.status"],
    [">", "agent"],
  ];
  const misses: [string, string][] = [
    ["agent.1", "agent.1.status"],
    ["agent.1.status.more", "agent.1.status"],
    ["agent.*", "agent.1.status"],
    ["agent.>", "agent"],
    ["agent.1.*", "agent.1"],
    ["project.>", "agent.1.status"],
  ];
  for (const [p, s] of hits) expect([p, s, matches(p, s)]).toEqual([p, s, true]);
  for (const [p, s] of misses) expect([p, s, matches(p, s)]).toEqual([p, s, false]);
  for (const p of [">", "*", "agent.*.status", "a-b_C9.>"]) expect(isPattern(p)).toBe(true);
  for (const p of ["", ".", "a..b", "a.>.b", "a.b*", "a.>b", "a b", "é", "a.", ".a", "a".repeat(257)])
    expect([p, isPattern(p)]).toEqual([p, false]);
});

test("the index knows whether anybody may want to hear of agents or messages", () => {
  const index = new SubjectIndex<string>();
  index.add(["user.*.changed", "access.*.changed", "broker.b.disconnected"], "rare");
  expect(index.interest.busy()).toBe(false);
  for (const pattern of [">", "user.u.>", "user.u.*", "agent.a.status", "project.*.agent.created", "*.*.message"]) {
    const off = index.add(["admin.maintenance.changed", pattern], "busy");
    expect([pattern, index.interest.busy()]).toEqual([pattern, true]);
    off();
    off();
    expect(index.interest.busy()).toBe(false);
  }
});

test("the index finds each subscriber once, with the first subject it asked for, until it is gone", () => {
  const index = new SubjectIndex<string>();
  index.add(["project.p.>", "agent.a.>"], "both");
  index.add([">"], "all");
  const off = index.add(["grove.p.*.status"], "legacy");
  index.add(["agent.b.status"], "other");
  const subjects = ["agent.a.status", "project.p.agent.status", "grove.p.agent.status"];
  expect(Object.fromEntries(index.find(subjects))).toEqual({
    all: "agent.a.status",
    both: "agent.a.status",
    legacy: "grove.p.agent.status",
  });
  off();
  expect([...index.find(subjects).keys()].sort()).toEqual(["all", "both"]);
  expect(index.find(["user.u.message"]).size).toBe(1);
});
