import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { HubError } from "@rootstock/protocol";
import type { Log, Service } from "@rootstock/service";
import type { Hono } from "hono";
import { refuseSocket } from "../control/index.ts";
import { demandDeclared, type UpgradeRoute } from "../routes/index.ts";
import { renderError } from "./errors.ts";
import { addSecurityHeaders } from "./securityHeaders.ts";

/** Takes WebSocket upgrades of its path. */
export interface UpgradeHandler {
  handles(url: string | undefined): boolean;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

/** A handler with what it declares to serve. */
export interface DeclaredUpgrades {
  readonly handler: UpgradeHandler;
  readonly routes: readonly UpgradeRoute[];
}

export interface HttpServerOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly app: Hono;
  readonly upgrades: readonly DeclaredUpgrades[];
  readonly log: Log;
  /** How long the head of a request may take to come, in milliseconds. */
  readonly headersMs?: number;
}

/** Above the 600 s for which load balancers keep idle connections: the shorter end must be theirs, or they see resets. */
const KEEP_ALIVE_MS = 620_000;
const REQUEST_MS = 60_000;
/** Whoever sends the head of a request a byte at a time holds a connection for no longer. */
const HEADERS_MS = 20_000;
const CHECK_MS = 5_000;
const MAX_HEADER_BYTES = 32_768;
/** Requests of one connection that have no answer yet, or one that is not sent: of clients nearly always one. */
const MAX_PIPELINED = 16;

/** The listening socket of a replica. Throws for upgrades that do not declare what they do; `start` fails when the address is taken. */
export class HttpServer implements Service {
  readonly #options: HttpServerOptions;
  readonly #server: Server;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    const { headersMs = HEADERS_MS } = options;
    for (const { routes } of options.upgrades) demandDeclared(routes);
    // Called for what does not even become a request: a Host or a path that no URL can have.
    const errorHandler = (err: unknown) => {
      const refusal = renderError(misshapen(err));
      addSecurityHeaders(refusal.headers, false);
      return refusal;
    };
    this.#server = createServer(
      // A missing Host is refused below, in the envelope.
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        requireHostHeader: false,
        // What else a client would like to speak, such as HTTP/2, it need not: it is answered in HTTP/1.1.
        shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === "websocket",
        connectionsCheckingInterval: Math.min(CHECK_MS, headersMs),
      },
      boundedPipeline(getRequestListener(options.app.fetch, { errorHandler })),
    );
    this.#server.keepAliveTimeout = KEEP_ALIVE_MS;
    this.#server.headersTimeout = headersMs;
    this.#server.requestTimeout = REQUEST_MS;
    this.#server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#server.on("clientError", (err: NodeJS.ErrnoException, socket) => refuseSocket(socket, misread(err)));
  }

  start(): Promise<void> {
    if (this.#server.listening) return Promise.resolve();
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host, port, backlog: 4_096 }, () => {
        this.#server.off("error", reject);
        this.#server.on("error", (err) => this.#options.log.error({ err }, "http server error"));
        resolve();
      });
    });
  }

  /** Takes no more connections, lets the requests under way end, and closes what is left. */
  stop(): Promise<void> {
    if (!this.#server.listening) return Promise.resolve();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeIdleConnections();
    });
  }

  /** Ends every connection now: what still runs after the others have stopped is a stream nobody will end. */
  closeAll(): void {
    this.#server.closeAllConnections();
  }

  /** Where it listens; only while it does. */
  address(): { readonly host: string; readonly port: number } {
    const address = this.#server.address() as AddressInfo | null;
    if (!address) throw new Error("the http server does not listen");
    return { host: this.#options.host, port: address.port };
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const handler = this.#options.upgrades.find((u) => u.handler.handles(request.url))?.handler;
    if (handler) {
      handler.handleUpgrade(request, socket, head);
      return;
    }
    socket.on("error", () => socket.destroy());
    refuseSocket(socket, new HubError("not_found", "no WebSocket is served at this path"));
  }
}

type Listener = (request: IncomingMessage, response: ServerResponse) => unknown;

/**
 * Cuts connections that ask on and on without reading: all that has come in one piece is begun at once, and every answer
 * waits in memory for its turn. One connection could have had gigabytes of them.
 */
const boundedPipeline = (listener: Listener): Listener => {
  const waiting = new WeakMap<Socket, number>();
  return (request, response) => {
    const { socket } = request;
    const before = waiting.get(socket) ?? 0;
    if (before >= MAX_PIPELINED) {
      socket.destroy();
      return;
    }
    waiting.set(socket, before + 1);
    response.once("close", () => waiting.set(socket, (waiting.get(socket) ?? 1) - 1));
    return listener(request, response);
  };
};

/** What Node's parser gave up on. */
const misread = (err: NodeJS.ErrnoException): HubError => {
  if (err.code === "HPE_HEADER_OVERFLOW")
    return new HubError("headers_too_large", `the path and headers must not be larger than ${MAX_HEADER_BYTES} bytes`);
  if (err.code === "ERR_HTTP_REQUEST_TIMEOUT")
    return new HubError("request_timeout", "the request was not sent within its time");
  return new HubError("invalid_request", "this is not HTTP/1.1");
};

const misshapen = (err: unknown): HubError =>
  new HubError("invalid_request", "the Host header or the path is not valid", { cause: err });
