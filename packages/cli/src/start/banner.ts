import type { ReplicaInfo } from "./cluster.ts";

/** What a person who has just started a cluster needs to know. */
export const banner = (p: {
  readonly url: string;
  readonly token: string;
  readonly replicas: readonly ReplicaInfo[];
  readonly dataRoot: string;
  readonly runtimeBroker: boolean;
}): string => {
  const width = Math.max(...p.replicas.map((r) => r.name.length));
  const replicas = p.replicas.map((r) => `    ${r.name.padEnd(width)}  ${r.url}  pid ${r.pid ?? "-"}`);
  const tour = p.runtimeBroker
    ? [
        "  Try, in another terminal of this folder:",
        "    npx rootstock agent start demo",
        '    npx rootstock agent message demo "hello"',
        "    npx rootstock agent logs demo",
        "",
      ]
    : ["  No runtime broker runs here; agents need one: npx rootstock runtime-broker --help", ""];
  return [
    "",
    "Rootstock is running.",
    "",
    `  Hub                ${p.url}   (load balancer; open it in a browser and sign in with the token)`,
    `  Development token  ${p.token}`,
    "  Replicas",
    ...replicas,
    `  Data and logs      ${p.dataRoot}`,
    "",
    ...tour,
    "  With the scion command line:",
    `    export SCION_HUB_ENDPOINT=${p.url} SCION_HUB_ENABLED=true SCION_DEV_TOKEN=${p.token}`,
    "",
    "  Kill a replica while you use it; nothing is lost, and it comes back:",
    `    kill -9 ${p.replicas[0]?.pid ?? "<pid>"}`,
    "",
    "  Ctrl-C stops everything. The data stay.",
    "",
  ].join("\n");
};
