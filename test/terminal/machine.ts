import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadRuntimeBrokerConfig, RuntimeBroker } from "@rootstock/runtime-broker";
import { type Log, systemClock, systemRandom } from "@rootstock/service";
import { api, eventually, type Replica, recordFiles, type Scene, testLog } from "@rootstock/testkit";

/** Programs that agents of these tests run besides the built-in shell. */
const HARNESSES = {
  /** Prints its terminal's size whenever that changes. */
  size: { command: "sh", args: ["-c", 'trap "stty size" WINCH; echo up; while :; do sleep 0.05; done', "size"] },
  /** Counts as fast as its terminal takes it, until a line comes in; then it says how far it came and falls silent. */
  count: {
    command: "sh",
    args: [
      "-c",
      "echo up; read go; yes 0123456789012345678901234567890123456789 | head -c 60000000; echo; echo counted; read end",
      "count",
    ],
  },
};

/** An address that leads to whichever replica the test says, as a load balancer would. */
export class MovingAddress {
  /** Connections that were made, and those through which something came back. */
  accepted = 0;
  answered = 0;
  #target: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(replica: Replica) {
    this.#target = replica.url;
    this.#server = createServer((from) => {
      const to = connect(Number(new URL(this.#target).port), "127.0.0.1");
      this.accepted += 1;
      to.once("data", () => {
        this.answered += 1;
      });
      for (const [one, other] of [
        [from, to],
        [to, from],
      ] as const) {
        this.#sockets.add(one);
        one.on("error", () => {});
        one.once("close", () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Where connections go from now on. */
  leadTo(replica: Replica): void {
    this.#target = replica.url;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** Our own runtime broker with agents as processes, connected to `replica`. */
export const startMachine = async (scene: Scene, replica: Replica, log: Log = testLog()): Promise<MovingAddress> => {
  const address = new MovingAddress(replica);
  await address.start();
  scene.onEnd(() => address.stop());
  const stateDirectory = await mkdtemp(join(tmpdir(), "terminal-"));
  const registered = await api(replica, "POST", "/api/v1/brokers", { name: "machine", autoProvide: true });
  const config = loadRuntimeBrokerConfig(
    { PATH: process.env.PATH },
    {
      hubUrl: address.url,
      brokerId: registered.text("brokerId"),
      joinToken: registered.text("joinToken"),
      stateDirectory,
      stopGraceSeconds: "1",
      harnesses: JSON.stringify(HARNESSES),
    },
  );
  const machine = new RuntimeBroker({ clock: systemClock, random: systemRandom, log }, config);
  scene.onEnd(async () => {
    await machine.stop();
    await killSessions(join(stateDirectory, "agents"));
    recordFiles(stateDirectory, ["host.log"]);
    await rm(stateDirectory, { recursive: true, force: true, maxRetries: 5 });
  });
  await machine.start();
  await eventually(async () => {
    const found = await api(replica, "GET", `/api/v1/runtime-brokers/${registered.text("brokerId")}`);
    return found.get("connectionState") === "connected" || found.get("status") === "online";
  });
  return address;
};

/** A running agent on that machine; its id. */
export const startAgent = async (
  replica: Replica,
  project: string,
  name: string,
  harnessConfig?: keyof typeof HARNESSES,
): Promise<string> => {
  const made = await api(replica, "POST", `/api/v1/projects/${project}/agents`, {
    name,
    ...(harnessConfig && { harnessConfig }),
    task: harnessConfig ? "" : "begin",
  });
  if (made.status !== 201) throw new Error(`agent not created: ${made.status} ${made.body}`);
  const id = made.text("agent.id");
  await eventually(async () => (await api(replica, "GET", `/api/v1/agents/${id}`)).get("phase") === "running");
  return id;
};

/** Sessions outlive their runtime broker; those of a test must not. */
const killSessions = async (agents: string): Promise<void> => {
  for (const key of await readdir(agents).catch(() => [])) {
    const text = await readFile(join(agents, key, "session.json"), "utf8").catch(() => "");
    if (text === "") continue;
    const { hostPid, pid } = JSON.parse(text);
    for (const target of [hostPid, -pid]) {
      try {
        process.kill(target, "SIGKILL");
      } catch {
        // Ended by itself.
      }
    }
  }
};
