import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Base, Probe, systemClock, systemRandom } from "@rootstock/service";
import { migrate, migrationStatus } from "@rootstock/store";
import { noteSecrets, recordFiles, testLog } from "@rootstock/testkit";
import { type DataDirectory, dataDirectory, prepareDataDirectory } from "./dataDirectory.ts";
import { Ledger } from "./ledger.ts";
import { type EmbeddedPostgres, embeddedPostgres } from "./postgres.ts";
import type { ProcessNews } from "./supervisedProcess.ts";

const base: Base = { clock: systemClock, random: systemRandom, log: testLog() };
let data: DataDirectory;
let news: Probe<ProcessNews>;
const started: EmbeddedPostgres[] = [];

beforeEach(() => {
  data = dataDirectory(mkdtempSync(join(tmpdir(), "rootstock-postgres-")));
  prepareDataDirectory(data, process.getuid?.() === 0);
  news = new Probe();
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((p) => p.process.stop()));
  recordFiles(data.logs);
  rmSync(data.root, { recursive: true, force: true });
});

const start = async (password = "a-password-for-it"): Promise<EmbeddedPostgres> => {
  noteSecrets(password);
  const deps = { base, ledger: new Ledger(data.ledger), onNews: (n: ProcessNews) => news.emit(n) };
  const postgres = await embeddedPostgres({ data, password, maxConnections: 20, preferredPort: 0, deps });
  started.push(postgres);
  await postgres.process.start();
  return postgres;
};

const accepts = (url: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: Number(new URL(url).port) });
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });

test("it serves with a password, comes back after a kill, and keeps its data between runs", async () => {
  const first = await start();
  await migrate({ url: first.url, log: testLog() });
  const { version } = await migrationStatus({ url: first.url });
  expect(version).toBeGreaterThan(0);
  const wrong = new URL(first.url);
  wrong.password = "another";
  await expect(migrationStatus({ url: wrong.toString() })).rejects.toThrow("password");

  const back = news.next((n) => n.kind === "ready");
  process.kill(first.process.pid ?? 0, "SIGKILL");
  await back;
  expect((await migrationStatus({ url: first.url })).version).toBe(version);

  await first.process.stop();
  expect(await accepts(first.url)).toBe(false);

  const second = await start();
  expect((await migrationStatus({ url: second.url })).version).toBe(version);
});

test("a server that somebody else runs on the same data is not disturbed", async () => {
  const first = await start();
  await expect(start()).rejects.toThrow(/PostgreSQL server \(pid \d+\) already runs/);
  expect((await migrationStatus({ url: first.url })).version).toBe(0);
});
