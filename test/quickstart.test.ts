import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  compileCache,
  eventually,
  noteSecrets,
  noteSecretsIn,
  recordFiles,
  recordOutput,
  runCommand,
} from "@rootstock/testkit";

/** The tour of README.md, with the command as a user has it, on a data directory and ports of its own. */

const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
const BIN = join(CHECKOUT, "node_modules", ".bin");
const LIMIT_MS = 120_000;

interface Replica {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
}

let data: string;
const launched: Start[] = [];

const environment = (): NodeJS.ProcessEnv => ({
  PATH: `${BIN}${delimiter}${process.env.PATH ?? ""}`,
  HOME: process.env.HOME,
  ...compileCache,
  ROOTSTOCK_DATA: data,
  ROOTSTOCK_PORT: "0",
  ROOTSTOCK_LOG_LEVEL: "trace",
});

/** One run of `rootstock start`, with what it has said so far. */
class Start {
  readonly process: ChildProcess;
  readonly exit: Promise<number | null>;
  text = "";

  constructor(env: NodeJS.ProcessEnv = {}) {
    this.process = spawn(join(BIN, "rootstock"), ["start"], {
      env: { ...environment(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    launched.push(this);
    // Standard output is for whoever started it: it shows them the token.
    recordOutput(this.process, "start", "stderr");
    const hear = (chunk: Buffer) => {
      this.text += chunk.toString();
    };
    this.process.stdout?.on("data", hear);
    this.process.stderr?.on("data", hear);
    this.exit = once(this.process, "close").then(([code]) => code);
  }

  /** Waits until it has said `what`; fails when it ends first. */
  async says(what: string): Promise<void> {
    const ended = this.exit.then((code) => {
      throw new Error(`ended with ${code}:\n${this.text}`);
    });
    await Promise.race([eventually(() => this.text.includes(what), 60_000), ended]);
  }

  replicas(): Replica[] {
    return [...this.text.matchAll(/(replica-\d+) +(http:\S+) +pid (\d+)/g)].map(([, name, url, pid]) => ({
      name: name ?? "",
      url: url ?? "",
      pid: Number(pid),
    }));
  }

  async stop(): Promise<number | null> {
    this.process.kill("SIGTERM");
    return this.exit;
  }
}

const started = async (): Promise<Start> => {
  const start = new Start();
  await start.says("Ctrl-C stops everything");
  return start;
};

/** `rootstock agent …`, as a user types it; through the load balancer unless `url` names a replica. */
const agent = async (args: readonly string[], url?: string): Promise<string> => {
  const hub = url
    ? { ROOTSTOCK_HUB_URL: url, SCION_DEV_TOKEN: readFileSync(join(data, "dev-token"), "utf8").trim() }
    : {};
  const { stdout } = await runCommand(join(BIN, "rootstock"), ["agent", ...args], { ...environment(), ...hub });
  return stdout.trim();
};

const received = async (): Promise<string[]> => {
  const logs = await agent(["logs", "demo"]);
  return [...logs.matchAll(/shell> received: (.*)/g)].map(([, text]) => (text ?? "").trim());
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const childrenNoted = (): { name: string; pid: number }[] =>
  JSON.parse(readFileSync(join(data, "processes.json"), "utf8"));

/** What it has made for itself, and what its runtime broker and agents got: no log may hold any of it. */
const noteKept = (): void => {
  const read = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8").trim() : "");
  noteSecrets(...["secret", "dev-token", "database-password"].map((name) => read(join(data, name))));
  const machine = join(data, "runtime-broker");
  for (const name of existsSync(machine) ? readdirSync(machine, { recursive: true, encoding: "utf8" }) : []) {
    if (name.endsWith(".json")) noteSecretsIn(JSON.parse(read(join(machine, name))));
    if (name.endsWith("scion-token")) noteSecrets(read(join(machine, name)));
  }
};

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), "rootstock-quickstart-"));
  // PostgreSQL runs as a user of its own when we are root.
  chmodSync(data, 0o711);
});

afterEach(async () => {
  for (const start of launched.splice(0)) await start.stop();
  noteKept();
  recordFiles(join(data, "logs"));
  recordFiles(join(data, "runtime-broker"), ["host.log"]);
  rmSync(data, { recursive: true, force: true });
});

describe("the quick start", () => {
  test(
    "an agent is started through one replica, messaged through others while each replica is killed in turn, and stopped",
    async () => {
      const start = await started();
      const [first, second] = start.replicas();
      expect(start.replicas()).toHaveLength(3);

      expect(await agent(["start", "demo"], first?.url)).toMatch(/^demo: (running|starting|provisioning)/);
      await agent(["message", "demo", "hello"], second?.url);
      await eventually(async () => expect(await received()).toEqual(["hello"]));

      const sent = ["hello"];
      for (const replica of start.replicas()) {
        process.kill(replica.pid, "SIGKILL");
        const text = `after ${replica.name} died`;
        await agent(["message", "demo", text]);
        sent.push(text);
        await eventually(async () => expect(await received()).toEqual(sent), 30_000);
        await start.says(`${replica.name} is back`);
      }

      expect(await agent(["list"])).toMatch(/demo +running/);
      expect(await agent(["stop", "demo"])).toMatch(/^demo: stopp/);
      await eventually(async () => expect(await agent(["list"])).toMatch(/demo +stopped/));
    },
    LIMIT_MS,
  );

  test(
    "a clean stop leaves nothing running, and the next run finds the data again",
    async () => {
      const first = await started();
      await agent(["start", "demo"]);
      await agent(["stop", "demo"]);
      const children = childrenNoted();
      expect(children.map((c) => c.name).sort()).toEqual([
        "postgres",
        "replica-1",
        "replica-2",
        "replica-3",
        "runtime-broker",
      ]);
      expect(await first.stop()).toBe(0);
      expect(children.filter((c) => isAlive(c.pid))).toEqual([]);
      expect(existsSync(join(data, "connection.json"))).toBe(false);
      await expect(agent(["list"])).rejects.toThrow("no cluster runs here");

      await started();
      expect(await agent(["list"])).toMatch(/demo +stopped/);
    },
    LIMIT_MS,
  );

  test(
    "a run that was killed without warning is cleaned up by the next one, and nothing accepted is lost",
    async () => {
      const first = await started();
      await agent(["start", "demo"]);
      const children = childrenNoted();
      first.process.kill("SIGKILL");
      await first.exit;
      const database = children.find((c) => c.name === "postgres");
      expect(database && isAlive(database.pid)).toBe(true);

      const second = await started();
      expect(second.text).toContain("ending what an earlier run left behind");
      expect(childrenNoted().map((c) => c.pid)).not.toContain(database?.pid);
      await agent(["message", "demo", "are you there"]);
      await eventually(async () => expect(await received()).toContain("are you there"), 30_000);
      await agent(["stop", "demo"]);
    },
    LIMIT_MS,
  );

  test(
    "a taken port and a second run are refused with what to do, and the first run goes on",
    async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const address = server.address();
      const port = typeof address === "object" && address ? address.port : 0;
      const refused = new Start({ ROOTSTOCK_PORT: String(port) });
      expect(await refused.exit).toBe(1);
      expect(refused.text).toContain(`port ${port} is taken`);
      await new Promise((resolve) => server.close(resolve));

      const first = await started();
      const second = new Start();
      expect(await second.exit).toBe(1);
      expect(second.text).toContain(`another "rootstock start" (pid ${first.process.pid})`);
      expect(await agent(["list"]).catch((err: unknown) => String(err))).toContain("no project yet");
    },
    LIMIT_MS,
  );
});
