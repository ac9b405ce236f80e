import { TerminalClient } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { createAgents, joinMany, startReplica } from "../cluster.ts";
import { webSocketFloor } from "../floors/bare.ts";
import { atMost, type Figure, timesFigures } from "../report.ts";
import { Samples, timed } from "../samples.ts";
import { startWorker } from "../worker.ts";

/** What a relayed keystroke may take longer than a direct WebSocket echo, in milliseconds. */
const ABOVE_ECHO_MS = 3;
const PER_ROUND = 50;

/**
 * One key at a time, typed and shown again by the runtime broker: on the owner, through another replica, and through the
 * database, in rounds beside a direct WebSocket echo.
 */
export const keystrokes: Bench = async ({ server, nodeOptions, quick, say }) => {
  const database = await server.database();
  const options = { databaseUrl: database.url, ...(nodeOptions && { nodeOptions }) };
  const owner = await startReplica({ ...options, name: "owner" });
  const entry = await startReplica({ ...options, name: "entry" });
  const detour = await startReplica({ ...options, name: "detour", env: { ROOTSTOCK_STREAM_RELAY: "postgres" } });
  const peers = await startWorker("runtimeBrokers.ts");
  const credentials = await joinMany(owner, 1);
  await peers.call(
    "dial",
    credentials.map((c) => ({ ...c, urls: [owner.url] })),
  );
  const ids = credentials.map((c) => c.brokerId);
  const [agent] = await createAgents(database, owner, ids, 1);
  if (!agent) throw new Error("no agent");
  const terminals = await Promise.all(
    [owner, entry, detour].map((replica) => TerminalClient.attach(replica, agent.id, { discard: true })),
  );
  const floor = await webSocketFloor();
  const names = ["on the owner", "peer relay", "relay through PostgreSQL"];
  const all = [
    { name: "echo", once: () => floor.once() },
    ...terminals.map((terminal, i) => ({
      name: names[i] ?? "",
      once: () => {
        const shown = terminal.onOutput.next();
        terminal.type("k");
        return shown;
      },
    })),
  ];
  const results = new Map(all.map((t) => [t.name, new Samples()]));
  const rounds = quick ? 4 : 40;
  // The first rounds warm up and do not count.
  for (let round = quick ? -1 : -11; round <= rounds; round += 1) {
    for (const t of all)
      for (let i = 0; i < PER_ROUND; i += 1) {
        const ms = await timed(t.once);
        if (round > 0) results.get(t.name)?.add(ms);
      }
    if (round > 0 && round % 10 === 0) say(`round ${round} of ${rounds}`);
  }
  for (const terminal of terminals) terminal.cut();
  await floor.close();
  await peers.stop();
  for (const replica of [detour, entry, owner]) await replica.stop();
  await database.drop();
  return figures(results, names);
};

const figures = (results: ReadonlyMap<string, Samples>, names: readonly string[]): Figure[] => {
  const bench = "keystrokes";
  const of = (name: string) => results.get(name) ?? new Samples();
  const echo = of("echo");
  const against = { name: "websocket echo p50", value: echo.p50 };
  return [
    ...timesFigures(bench, "floor: websocket echo", echo),
    ...names.flatMap((name) => {
      const [p50, p99] = timesFigures(bench, name, of(name));
      if (!p50 || !p99) return [];
      const held = name === "peer relay" && {
        target: atMost(p50.value, echo.p50 + ABOVE_ECHO_MS, `<= echo + ${ABOVE_ECHO_MS} ms`),
      };
      return [{ ...p50, against, ...held }, p99];
    }),
  ];
};
