import { HttpLane } from "../httpLane.ts";
import { startWorker, type Worker } from "../worker.ts";
import { echoFloor, type Floor } from "./chain.ts";

const BODY = JSON.stringify({ structured_message: { msg: "a line of text" } });

/** A floor in a process of its own that is called over HTTP. */
export interface HttpFloor extends Floor {
  readonly url: string;
}

const overHttp = async (name: string, url: string, workers: readonly Worker[]): Promise<HttpFloor> => {
  const lane = await HttpLane.open(url, "none");
  return {
    name,
    url,
    once: async () => {
      const { status } = await lane.request("POST", "/message", BODY);
      if (status !== 200) throw new Error(`${name} answered ${status}`);
    },
    close: async () => {
      lane.close();
      for (const worker of workers) await worker.stop();
    },
  };
};

/** An answer of Hono with nothing behind it. */
export const bareResponseFloor = async (): Promise<HttpFloor> => {
  const worker = await startWorker("bareResponse.ts");
  return overHttp("bare response", await worker.call<string>("listen"), [worker]);
};

/** A do-nothing hub that forwards over a WebSocket to a peer; the peer is the one that answers the real hub. */
export const bareHubFloor = (): Promise<HttpFloor> => forwardingFloor("bare hub", "bareHub.ts");

/** As {@link bareHubFloor}, with each message committed as a row of this database before it is forwarded. */
export const storingHubFloor = (databaseUrl: string): Promise<HttpFloor> =>
  forwardingFloor("bare hub that stores", "storingHub.ts", databaseUrl);

const forwardingFloor = async (name: string, file: string, databaseUrl?: string): Promise<HttpFloor> => {
  const [hub, peer] = await Promise.all([startWorker(file), startWorker("runtimeBrokers.ts")]);
  const url = await hub.call<string>("listen", databaseUrl);
  await peer.call("dial", [{ brokerId: "bare", secretKey: "", urls: [url] }]);
  return overHttp(name, url, [hub, peer]);
};

/** A WebSocket echo in a process of its own. */
export const webSocketFloor = async (): Promise<Floor> => {
  const worker = await startWorker("echo.ts");
  const echo = await echoFloor(await worker.call<string>("listen"));
  return {
    ...echo,
    close: async () => {
      await echo.close();
      await worker.stop();
    },
  };
};
