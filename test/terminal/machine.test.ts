import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  ApiReply,
  type AttachOptions,
  api,
  eventually,
  LogClient,
  type Replica,
  Scene,
  startReplicaProcess,
  TerminalClient,
} from "@rootstock/testkit";
import { startAgent, startMachine } from "./machine.ts";

/** The terminal of an agent on our own runtime broker, from any replica. */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const attach = async (replica: Replica, agent: string, options: AttachOptions = {}): Promise<TerminalClient> => {
  const client = await TerminalClient.attach(replica, agent, options);
  scene.onEnd(async () => client.cut());
  return client;
};

const LIMIT_MS = 60_000;

test(
  "screen, keyboard and size through both replicas; who only looks changes nothing",
  async () => {
    const [owner, entry] = [await scene.replica(), await scene.replica()];
    await startMachine(scene, owner);
    const project = await scene.project(entry);
    const shell = await startAgent(entry, project, "shell");
    for (const replica of [owner, entry]) {
      const client = await attach(replica, shell);
      await client.shows("shell> received: begin");
      client.type("grüße\r");
      await client.shows("shell> received: grüße");
      client.close();
    }
    const sized = await startAgent(entry, project, "sized", "size");
    const [one, other] = [await attach(owner, sized), await attach(entry, sized)];
    await Promise.all([one.shows("up"), other.shows("up")]);
    one.resize(111, 33);
    await Promise.all([one.shows("33 111"), other.shows("33 111")]);
    const watching = await attach(entry, sized, { query: "cols=20&rows=10&readonly=true" });
    await watching.shows("33 111");
    other.resize(112, 34);
    await watching.shows("34 112");
    expect(watching.output().includes("10 20")).toBe(false);
  },
  LIMIT_MS,
);

test(
  "log, followed log, screen and commands from every replica; a followed log goes on when its agent starts again",
  async () => {
    const owner = await scene.replica();
    const entry = await scene.replica();
    const detour = await scene.replica({ ROOTSTOCK_STREAM_RELAY: "postgres" });
    await startMachine(scene, owner);
    const agent = await startAgent(entry, await scene.project(entry), "shell");
    const path = `/api/v1/agents/${agent}`;
    const followers: LogClient[] = [];
    for (const replica of [owner, entry, detour]) {
      await eventually(async () =>
        (await api(replica, "GET", `${path}/logs`)).text("logs").includes("received: begin"),
      );
      const screen = await api(replica, "POST", `${path}/exec`, {
        command: ["tmux", "capture-pane", "-pe", "-t", "scion"],
        timeout: 10,
      });
      expect(screen.text("output")).toContain("received: begin");
      const done = await api(replica, "POST", `${path}/exec`, { command: ["sh", "-c", "echo done; exit 3"] });
      expect([done.status, done.get("output"), done.get("exitCode")]).toEqual([200, "done\n", 3]);
      const follower = await LogClient.follow(replica, agent, { query: "tail=1000" });
      if (follower instanceof ApiReply) throw new Error(follower.body);
      scene.onEnd(async () => follower.cut());
      followers.push(follower);
      await follower.shows("received: begin");
    }
    const typing = await attach(entry, agent);
    typing.type("for the log\r");
    await Promise.all(followers.map((follower) => follower.shows("received: for the log")));
    expect((await api(entry, "POST", `${path}/restart`)).status).toBeLessThan(300);
    const again = await eventually(() => attach(entry, agent));
    await again.shows("shell>");
    again.type("after the restart\r");
    await Promise.all(followers.map((follower) => follower.shows("received: after the restart")));
  },
  LIMIT_MS,
);

test(
  "the owner is killed: the terminal that is opened again elsewhere shows the screen as it was",
  async () => {
    const [owner, entry] = await Promise.all(
      ["owner", "entry"].map((name) => startReplicaProcess({ databaseUrl: scene.database.url, name })),
    );
    if (!owner || !entry) throw new Error("no replicas");
    for (const replica of [owner, entry])
      scene.onEnd(async () => {
        replica.signal("SIGKILL");
        await replica.exited;
      });
    const address = await startMachine(scene, owner);
    const agent = await startAgent(entry, await scene.project(entry), "shell");
    const client = await attach(entry, agent);
    await client.shows("received: begin");
    client.type("remember me\r");
    await client.shows("received: remember me");
    address.leadTo(entry);
    owner.signal("SIGKILL");
    expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
    const again = await eventually(() => attach(entry, agent));
    await again.shows("received: remember me");
    expect(again.output().toString()).toMatch(/received: begin[\s\S]*received: remember me/);
    again.type("and on\r");
    await again.shows("received: and on");
  },
  LIMIT_MS,
);

test(
  "a viewer that does not read while the program prints 60 MB: the program ends, others see it, the viewer catches up",
  async () => {
    const [owner, entry] = [await scene.replica(), await scene.replica()];
    await startMachine(scene, owner);
    const project = await scene.project(entry);
    const counting = await startAgent(entry, project, "counting", "count");
    const shell = await startAgent(entry, project, "shell");
    const [slow, quick, typing] = [
      await attach(entry, counting),
      await attach(entry, counting, { discard: true }),
      await attach(entry, shell),
    ];
    await slow.shows("up");
    slow.pause();
    let tail = "";
    quick.onOutput.on((data) => {
      tail = (tail + data.toString("latin1")).slice(-4_000);
    });
    quick.type("go\r");
    for (let n = 0; n < 10; n += 1) {
      typing.type(`key ${n}\r`);
      await typing.shows(`received: key ${n}`);
    }
    await eventually(() => tail.includes("counted"), LIMIT_MS);
    slow.resume();
    await slow.shows("counted");
    // Windows and sockets' buffers, not all of it.
    expect(slow.received).toBeLessThan(50_000_000);
  },
  2 * LIMIT_MS,
);
