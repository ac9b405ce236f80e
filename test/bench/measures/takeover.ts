import { TEST_TOKEN } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { createAgents, joinMany, messageBody, messagePath, startReplica } from "../cluster.ts";
import { HttpLane } from "../httpLane.ts";
import type { Account } from "../processes/runtimeBrokers.ts";
import { atMost, timesFigures } from "../report.ts";
import { Samples } from "../samples.ts";
import { startWorker } from "../worker.ts";

/**
 * The owner is killed (-9) while a message of the agent is on the wire, unanswered; another is sent through a survivor
 * right after. How long until that one has arrived: before it, the first must have been taken back and sent again.
 * The runtime broker redials at once.
 */
export const takeover: Bench = async ({ server, quick, say }) => {
  const database = await server.database();
  let owner = await startReplica({ databaseUrl: database.url, name: "first" });
  let survivor = await startReplica({ databaseUrl: database.url, name: "second" });
  const peers = await startWorker("runtimeBrokers.ts");
  const [credentials] = await joinMany(owner, 1);
  if (!credentials) throw new Error("no credentials");
  const [agent] = await createAgents(database, owner, [credentials.brokerId], 1);
  if (!agent) throw new Error("no agent");
  const samples = new Samples();
  const kills = quick ? 3 : 20;
  const path = messagePath(agent);
  for (let kill = 1; kill <= kills; kill += 1) {
    // A runtime broker of its own for each round: it knows only the two replicas of this round.
    const dialler = await startWorker("runtimeBrokers.ts");
    await dialler.call("dial", [{ ...credentials, urls: [owner.url, survivor.url] }]);
    const lane = await HttpLane.open(survivor.url, TEST_TOKEN);
    const accepted = await lane.request("POST", path, messageBody(`kill:${agent.slug}:${kill * 10}`));
    if (accepted.status !== 200) throw new Error(`before the kill: ${accepted.status} ${accepted.body}`);
    const held = dialler.call("hold");
    const other = await HttpLane.open(survivor.url, TEST_TOKEN);
    const first = other.request("POST", path, messageBody(`kill:${agent.slug}:${kill * 10 + 1}`));
    await held;
    const text = `kill:${agent.slug}:${kill * 10 + 2}`;
    const arrival = dialler.call<bigint>("arrival", text);
    const killedAt = process.hrtime.bigint();
    const killed = owner.kill();
    const second = await lane.request("POST", path, messageBody(text));
    if (second.status !== 200 && second.status !== 202)
      throw new Error(`after the kill: ${second.status} ${second.body}`);
    samples.add(Number((await arrival) - killedAt) / 1e6);
    await Promise.all([killed, first]);
    const account = await dialler.call<Account>("account");
    if (account.outOfOrder > 0) throw new Error("a message overtook another");
    lane.close();
    other.close();
    await dialler.stop();
    owner = survivor;
    survivor = await startReplica({ databaseUrl: database.url, name: `after-${kill}` });
    if (kill % 5 === 0) say(`${kill} kills`);
  }
  await peers.stop();
  await survivor.stop();
  await owner.stop();
  await database.drop();
  const bench = "takeover";
  const [p50, p99] = timesFigures(bench, "kill -9 of the owner to next delivery", samples);
  if (!p50 || !p99) throw new Error("not measured");
  return [
    { ...p50, target: atMost(p50.value, 120, "<= 120 ms") },
    { ...p99, target: atMost(p99.value, 400, "<= 400 ms") },
    { bench, name: "kills", value: samples.count, unit: "" },
  ];
};
