import { rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import type { Service } from "@rootstock/service";
import { makePrivateDirectory } from "./files.ts";
import { socketPathFor } from "./runtimes/process/socketPath.ts";

/**
 * Keeps a second runtime broker out of the state directory: both would hold the same credential and displace each other at
 * the hub for ever. A socket that somebody listens on is proof of life that a killed process cannot leave behind.
 */
export class StateLock implements Service {
  readonly #directory: string;
  #server: Server | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @throws Error when another process uses the directory */
  async start(): Promise<void> {
    if (this.#server) return;
    await makePrivateDirectory(this.#directory);
    const path = await socketPathFor(this.#directory);
    if (await answers(path)) throw new Error(`another runtime broker uses the state directory ${this.#directory}`);
    await rm(path, { force: true });
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    server.unref();
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
