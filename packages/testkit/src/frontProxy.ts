import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FrontProxyOptions {
  /** Where requests go on to. */
  readonly target: { readonly host: string; readonly port: number };
  /** What it adds to each request, such as an assertion of who makes it; what clients send under these names is dropped. */
  readonly adds?: () => Promise<Readonly<Record<string, string>>>;
}

/**
 * What stands before a load balancer: each request goes on over a connection of its own, so that a balancer of connections
 * has every request of one browser served elsewhere than the one before.
 */
export class FrontProxy {
  readonly #options: FrontProxyOptions;
  readonly #server = createServer((request, response) => {
    this.#pass(request, response).catch(() => response.writeHead(502).end());
  });

  private constructor(options: FrontProxyOptions) {
    this.#options = options;
  }

  static async start(options: FrontProxyOptions): Promise<FrontProxy> {
    const proxy = new FrontProxy(options);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once("error", reject);
      proxy.#server.listen(0, "127.0.0.1", resolve);
    });
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { target, adds } = this.#options;
    const added = (await adds?.()) ?? {};
    const { connection: _, "keep-alive": __, ...headers } = incoming.headers;
    const outgoing = httpRequest(
      { ...target, agent: false, method: incoming.method, path: incoming.url, headers: { ...headers, ...added } },
      (answer) => {
        const { connection: ___, "keep-alive": ____, ...got } = answer.headers;
        response.writeHead(answer.statusCode ?? 502, got);
        answer.pipe(response);
      },
    );
    outgoing.once("error", () => response.destroy());
    incoming.pipe(outgoing);
  }
}
