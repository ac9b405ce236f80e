import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";

/** The shape of the code: which way imports run, and what only certain rooms may touch. */

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGES = join(ROOT, "packages");

/** What each package may import of ours. `testkit` is for tests only. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  service: [],
  "embedded-postgres": [],
  store: ["protocol", "service"],
  hub: ["protocol", "service", "store"],
  "runtime-broker": ["protocol", "service"],
  client: ["protocol"],
  cli: ["protocol", "service", "store", "hub", "runtime-broker", "client", "embedded-postgres"],
  testkit: ["protocol", "service", "store", "hub", "embedded-postgres"],
};

/** The hub's rooms by floor: a room imports only from floors below its own. */
const FLOORS: Readonly<Record<string, number>> = {
  audit: 1,
  metrics: 1,
  secrets: 1,
  telemetry: 1,
  people: 1,
  wire: 2,
  auth: 2,
  bus: 2,
  commands: 2,
  control: 2,
  replicas: 2,
  sockets: 3,
  oauth: 4,
  dispatch: 4,
  limits: 4,
  streams: 4,
  sse: 4,
  actions: 5,
  trace: 5,
  routes: 6,
  sweeps: 6,
  http: 7,
  composition: 8,
};
/** Same-floor imports that the composition cannot turn into subscriptions: pure functions and types. */
const NEIGHBOURS: readonly string[] = ["control auth"];

interface Source {
  readonly path: string;
  readonly text: string;
  readonly test: boolean;
}

const walk = (dir: string): string[] =>
  readdirSync(dir).flatMap((name) => {
    const path = join(dir, name);
    if (name === "node_modules") return [];
    return statSync(path).isDirectory() ? walk(path) : path.endsWith(".ts") ? [path] : [];
  });

const sources: readonly Source[] = [...walk(PACKAGES), ...walk(join(ROOT, "test"))].map((path) => ({
  path: relative(ROOT, path),
  text: readFileSync(path, "utf8"),
  test:
    /\.(test|testing)\.ts$/.test(path) ||
    path.includes("/testkit/") ||
    path.includes("/testing/") ||
    path.startsWith(join(ROOT, "test")),
}));

/** Comments do not count: they may speak of anything. */
const code = (s: Source): string => s.text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");

const IMPORT = /(?:^|\n)\s*(import|export)\s+(type\s+)?[^;'"]*?from\s+"([^"]+)"|import\(\s*"([^"]+)"\s*\)/g;

const importsOf = (s: Source): { readonly from: string; readonly typeOnly: boolean }[] =>
  [...code(s).matchAll(IMPORT)].map((m) => ({ from: m[3] ?? m[4] ?? "", typeOnly: m[2] !== undefined }));

const packageOf = (path: string): string => path.split("/")[1] ?? "";
const product = sources.filter((s) => !s.test);

const offences = (check: (s: Source) => readonly string[], among: readonly Source[] = product): string[] =>
  among.flatMap((s) => check(s).map((what) => `${s.path}: ${what}`));

test("packages import only what is below them, and only through the front door", () => {
  expect(
    offences((s) =>
      importsOf(s).flatMap(({ from }) => {
        if (from.startsWith(".")) {
          const target = relative(ROOT, resolve(ROOT, dirname(s.path), from));
          return packageOf(target) === packageOf(s.path) ? [] : [`reaches into ${target}`];
        }
        const ours = /^@rootstock\/([^/]+)(\/.*)?$/.exec(from);
        if (!ours) return [];
        if (ours[2]) return [`enters ${from} by a side door`];
        return MAY_IMPORT[packageOf(s.path)]?.includes(ours[1] ?? "") ? [] : [`must not import ${from}`];
      }),
    ),
  ).toEqual([]);
});

test("a room of the hub imports only from floors below, and enters rooms by their index", () => {
  const roomOf = (path: string): string | undefined => /^packages\/hub\/src\/([^/]+)\//.exec(path)?.[1];
  expect(
    offences((s) => {
      const room = roomOf(s.path);
      if (!room) return [];
      const floor = FLOORS[room];
      if (floor === undefined) return [`room ${room} is on no floor`];
      return importsOf(s).flatMap(({ from }) => {
        if (!from.startsWith(".")) return [];
        const target = relative(ROOT, resolve(ROOT, dirname(s.path), from));
        const other = roomOf(target);
        if (other === room) return [];
        // The composition is built from the configuration; every other room is handed what it needs.
        if (!other)
          return target.startsWith("packages/hub/src/") && floor < 7 ? [`imports ${target}, which is above it`] : [];
        if (!target.endsWith("/index.ts")) return [`enters ${other} by ${target}`];
        const below = (FLOORS[other] ?? 99) < floor || NEIGHBOURS.includes(`${room} ${other}`);
        return below ? [] : [`${room} (floor ${floor}) imports ${other} (floor ${FLOORS[other]})`];
      });
    }),
  ).toEqual([]);
});

test("no import cycle", () => {
  const graph = new Map<string, string[]>();
  for (const s of product) {
    const targets = importsOf(s)
      .filter((i) => !i.typeOnly && i.from.startsWith("."))
      .map((i) => relative(ROOT, resolve(ROOT, dirname(s.path), i.from)));
    graph.set(s.path, targets);
  }
  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) {
      cycles.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
      return;
    }
    if (done.has(path)) return;
    for (const target of graph.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  expect(cycles).toEqual([]);
});

test("the environment is read in config.ts only", () => {
  expect(
    offences((s) => (/process\.env/.test(code(s)) && !s.path.endsWith("/config.ts") ? ["reads process.env"] : [])),
  ).toEqual([]);
});

test("time and randomness come through service", () => {
  const forbidden = /\bDate\.now\(|new Date\(\)|Math\.random\(|\bset(Timeout|Interval)\(|\brandomUUID\(/;
  // The client runs in other people's programs, without our clock and dice.
  const free = ["service", "client"];
  expect(
    offences((s) =>
      !free.includes(packageOf(s.path)) && forbidden.test(code(s)) ? ["reads a clock or dice of its own"] : [],
    ),
  ).toEqual([]);
});

/** Of what is secret, or proves that somebody knows what is. */
const SECRET_NAME = /(secret|token|hash|signature|digest|hmac|password|nonce|verifier|apiKey)$/i;
const COMPARED = /([\w.]+)(?:\(\))?\s*[!=]==\s*([\w.]+)/g;
/** Parts of the subjects of events, and the configuration held against itself: nobody guesses at them. */
const NO_GUESSES = ["packages/hub/src/bus/subjects.ts", "packages/hub/src/secrets/rootSecrets.ts"];
const PLAIN_VALUE = /^(undefined|null|true|false|\d+)$/;

/** Comparisons that tell by the time they take how much of a secret was right. */
const hastyComparisons = (text: string): string[] =>
  [...text.matchAll(COMPARED)].flatMap(([whole, left = "", right = ""]) =>
    (SECRET_NAME.test(left) && !PLAIN_VALUE.test(right)) || (SECRET_NAME.test(right) && !PLAIN_VALUE.test(left))
      ? [`compares ${whole}`]
      : [],
  );

test("secrets are compared in constant time", () => {
  expect(hastyComparisons("if (given.token === row.token) return;")).toHaveLength(1);
  expect(hastyComparisons("signature !== expected")).toHaveLength(1);
  expect(hastyComparisons("if (token === undefined || url.hash === '') timingSafeEqual(token, given)")).toEqual([]);
  const checked = product.filter(
    ({ path }) => ["hub", "store", "protocol"].includes(packageOf(path)) && !NO_GUESSES.includes(path),
  );
  expect(offences((s) => hastyComparisons(code(s)), checked)).toEqual([]);
});

test("SQL lives in the store", () => {
  expect(
    offences((s) =>
      packageOf(s.path) === "store"
        ? []
        : importsOf(s)
            .filter(({ from }) => ["kysely", "pg", "pg-listen"].includes(from))
            .map(({ from }) => `imports ${from}`),
    ),
  ).toEqual([]);
});

test("Hono is known to http and routes only", () => {
  expect(
    offences((s) =>
      importsOf(s).some(({ from }) => from === "hono" || from.startsWith("hono/")) &&
      !/^packages\/hub\/src\/(http|routes)\//.test(s.path)
        ? ["imports hono"]
        : [],
    ),
  ).toEqual([]);
});

test("tests wait for facts, not for time", () => {
  const waits = /\bsetTimeout\(|\.sleep\(\s*\d/;
  const tests = sources.filter((s) => /\.test\.ts$/.test(s.path));
  expect(offences((s) => (waits.test(code(s)) ? ["waits a fixed time"] : []), tests)).toEqual([]);
});

/** Files of tests that make logs or processes, and where what those write is kept for the search at the end of a run. */
const KEEPS_LOGS: Readonly<Record<string, string>> = {
  "packages/testkit/src/recordedLogs.ts": "keeps what others write",
  "packages/testkit/src/replicas.ts": "by recordLog",
  "packages/testkit/src/runRecord.test.ts": "tests the search",
  "packages/testkit/src/embeddedPostgres.ts": "by logFile",
  "packages/testkit/src/pgBouncer.ts": "by recordOutput",
  "packages/hub/src/telemetry/otlpTracing.test.ts": "by heard",
  "packages/runtime-broker/src/testing/brokerProgram.ts": "its output, by survival.test.ts",
  "packages/runtime-broker/src/survival.test.ts": "by recordOutput",
  "test/quickstart.test.ts": "by recordOutput and recordFiles",
  "test/trace.test.ts": "by recordText",
  "test/terminal/bulkMachine.ts": "by recordOutput",
  // No programs of ours, and none that knows a secret.
  "packages/service/src/log.test.ts": "tests the log",
  "packages/runtime-broker/src/testing/fakeDocker.ts": "a script in docker's place",
  "packages/cli/src/start/lock.test.ts": "a process that does nothing",
  "test/terminal/unreachable.test.ts": "a process that accepts nobody",
  "test/chaos/codeCopy.ts": "git and npm",
};

test("whatever tests run writes its log where the whole run is searched for secrets", () => {
  const makes = /\b(?:silentLog|createLog)\b|from "(?:node:)?child_process"|require\("node:child_process"\)/;
  // Benchmarks and the fuzzer are no part of the test run.
  const others = sources.filter((s) => s.test && !/^test\/(bench|fuzz|architecture)/.test(s.path));
  const found = others.filter((s) => makes.test(code(s))).map(({ path }) => path);
  expect(found.sort()).toEqual(Object.keys(KEEPS_LOGS).sort());
});

test("migrations are numbered without gap or twin, and say whether older code may go on", () => {
  const files = readdirSync(join(ROOT, "migrations")).sort();
  expect(files.map((f) => Number(f.slice(0, 4)))).toEqual(files.map((_, i) => i + 1));
  for (const file of files)
    expect(readFileSync(join(ROOT, "migrations", file), "utf8")).toMatch(/^-- compatible: (yes|no)\n/);
});

test("the top level has the folders that are expected there, and no others", () => {
  const folders = readdirSync(ROOT).filter((name) => !name.startsWith(".") && statSync(join(ROOT, name)).isDirectory());
  const known = ["deploy", "migrations", "node_modules", "packages", "test"];
  expect(folders.filter((name) => !known.includes(name))).toEqual([]);
});
