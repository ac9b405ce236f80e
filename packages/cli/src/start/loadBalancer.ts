import { connect, createServer, type Server, type Socket } from "node:net";
import type { Base, Service } from "@rootstock/service";
import { CliError } from "../exitCodes.ts";
import type { Upstream, Upstreams } from "./upstreams.ts";

export interface LoadBalancerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly upstreams: Upstreams;
  readonly base: Base;
  /** How long a connection waits for a replica while there is none; 10,000 ms by default. */
  readonly waitMs?: number;
  /** How long one replica may take to accept; 1,000 ms by default. */
  readonly connectMs?: number;
}

/**
 * Spreads TCP connections over the replicas in turn. It knows nothing of HTTP and keeps nobody on one replica: that
 * any replica may serve any call is what it is there to show. A replica that refuses the connection is skipped, and
 * the next one gets it; nothing has been sent then, so no call is made twice.
 */
export class LoadBalancer implements Service {
  readonly #options: Required<LoadBalancerOptions>;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #stopping = new AbortController();

  constructor(options: LoadBalancerOptions) {
    this.#options = { waitMs: 10_000, connectMs: 1_000, ...options };
  }

  /** Where it listens. Throws before `start` and after `stop`. */
  address(): { readonly host: string; readonly port: number } {
    const address = this.#server?.address();
    if (typeof address !== "object" || address === null) throw new Error("the load balancer does not listen");
    return { host: address.address, port: address.port };
  }

  async start(): Promise<void> {
    if (this.#server) return;
    this.#stopping = new AbortController();
    // Half-open: a client that has sent all it has to say still gets its answer.
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (client) => {
      this.#serve(client).catch((err: unknown) => {
        this.#options.base.log.warn({ err }, "connection lost");
        client.destroy();
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => {
        const { host, port } = this.#options;
        reject(new CliError(`cannot listen on ${host}:${port}: ${cause.message}`, { cause }));
      });
      server.listen({ host: this.#options.host, port: this.#options.port }, resolve);
    });
    server.on("error", (err) => this.#options.base.log.warn({ err }, "load balancer error"));
    this.#server = server;
  }

  /** Takes no more connections and ends those that are open. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    this.#stopping.abort();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(client: Socket): Promise<void> {
    this.#track(client);
    const gone = new AbortController();
    client.once("close", () => gone.abort());
    const replica = await this.#connectToAny(AbortSignal.any([gone.signal, this.#stopping.signal]));
    if (!replica) return void client.destroy();
    if (client.destroyed) return void replica.destroy();
    this.#track(replica);
    join(client, replica);
  }

  /** A connection to the first replica that takes it, waiting for one to appear if need be. */
  async #connectToAny(signal: AbortSignal): Promise<Socket | undefined> {
    const { upstreams, waitMs, connectMs } = this.#options;
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(waitMs)]);
    while (!deadline.aborted) {
      for (const upstream of upstreams.candidates()) {
        const socket = await dial(upstream, connectMs, deadline);
        if (socket) return socket;
        if (deadline.aborted) return undefined;
        upstreams.markDown(upstream.name);
      }
      await upstreams.until((states) => [...states.values()].some((s) => s !== "down"), deadline);
    }
    return undefined;
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }
}

/** An open connection, or undefined when it was refused or not accepted in time. */
const dial = (upstream: Upstream, connectMs: number, signal: AbortSignal): Promise<Socket | undefined> =>
  new Promise((resolve) => {
    const { host, port } = upstream;
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
    const limit = AbortSignal.any([signal, AbortSignal.timeout(connectMs)]);
    const fail = () => {
      socket.destroy();
      resolve(undefined);
    };
    limit.addEventListener("abort", fail, { once: true });
    socket.once("error", fail);
    socket.once("connect", () => {
      limit.removeEventListener("abort", fail);
      socket.removeListener("error", fail);
      resolve(socket);
    });
  });

/** Passes bytes both ways, as fast as the slower side takes them, and each end's end to the other. */
const join = (client: Socket, replica: Socket): void => {
  for (const [from, to] of [
    [client, replica],
    [replica, client],
  ] as const) {
    from.setKeepAlive(true, 30_000);
    from.pipe(to);
    // A reset has to become a reset, not a clean end: the other side must not take half an answer for a whole one.
    from.once("error", () => to.resetAndDestroy());
    from.once("close", () => !to.destroyed && !from.readableEnded && to.destroy());
  }
};
