import { connect, createServer, type Server, type Socket } from "node:net";
import { systemClock } from "@rootstock/service";
import type { ConnectionKind } from "./schedule.ts";

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  kind: ConnectionKind;
  losing: (() => void) | undefined;
  losesCommit: (() => void) | undefined;
}

/** Leaves out notifications of a byte stream that begins at the start of a message. */
const withoutNotifications = (pass: (bytes: Buffer) => void, drops: () => boolean) => {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk: Buffer): void => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 5) {
      const length = rest.readInt32BE(1) + 1;
      if (rest.length < length) return;
      const isNotification = rest[0] === "A".charCodeAt(0);
      if (!(isNotification && drops())) pass(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
  };
};

/**
 * Stands between one replica and PostgreSQL, and knows what each connection is for from what is said on it: one that
 * says LISTEN listens, one that sets keepalive for locks coordinates, all others are the pool's.
 */
export class PostgresProxy {
  readonly #links = new Set<Link>();
  readonly #server: Server;
  readonly #target: URL;
  #deaf = false;
  #hung = false;
  #commitsWaitMs = 0;
  #losing: { readonly words: string; readonly ofCommit: boolean; readonly lost: () => void } | undefined;

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(target: string): Promise<PostgresProxy> {
    const proxy = new PostgresProxy(new URL(target));
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    const address = this.#server.address();
    const url = new URL(this.#target);
    url.hostname = "127.0.0.1";
    url.port = String(typeof address === "object" && address ? address.port : 0);
    return url.toString();
  }

  /** Ends these connections without a word. */
  cut(kind: ConnectionKind): void {
    for (const link of [...this.#links]) if (link.kind === kind) end(link);
  }

  /**
   * Ends the connection of the next statement with these words once the server has answered it, keeping the answer back;
   * or, `ofCommit`, that of the commit of its transaction. Resolves when that has happened.
   */
  loseAnswer(words: string, ofCommit = false): Promise<void> {
    return new Promise((lost) => {
      this.#losing = { words, ofCommit, lost };
    });
  }

  /** Takes a `loseAnswer` back that has found no statement. */
  keepAnswers(): void {
    this.#losing = undefined;
  }

  /** While deaf, no notification reaches the replica. */
  set deaf(deaf: boolean) {
    this.#deaf = deaf;
  }

  /**
   * While it hangs, nothing that either side says arrives, and nothing is refused: a new connection is taken, and hears
   * no word. What was said arrives afterwards.
   */
  set hung(hung: boolean) {
    this.#hung = hung;
    for (const { client, server } of this.#links)
      for (const socket of [client, server]) {
        if (hung) socket.pause();
        else socket.resume();
      }
  }

  /** Each COMMIT is kept back for so many milliseconds. */
  set commitsWaitMs(ms: number) {
    this.#commitsWaitMs = ms;
  }

  async stop(): Promise<void> {
    for (const link of [...this.#links]) end(link);
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #serve(client: Socket): void {
    const server = connect(Number(this.#target.port), this.#target.hostname);
    const link: Link = { client, server, kind: "pool", losing: undefined, losesCommit: undefined };
    this.#links.add(link);
    client.setNoDelay(true);
    server.setNoDelay(true);
    if (this.#hung) for (const socket of [client, server]) socket.pause();
    client.on("data", (chunk) => {
      if (link.kind === "pool") link.kind = kindOf(chunk) ?? "pool";
      if (link.kind === "pool" && this.#losing !== undefined && chunk.includes(this.#losing.words)) {
        if (this.#losing.ofCommit) link.losesCommit = this.#losing.lost;
        else link.losing = this.#losing.lost;
        this.#losing = undefined;
      }
      if (link.losesCommit && chunk.includes("commit")) link.losing = link.losesCommit;
      if (this.#commitsWaitMs === 0 || link.kind !== "pool" || !chunk.includes("commit")) server.write(chunk);
      else void this.#late(link, chunk);
    });
    server.on(
      "data",
      withoutNotifications(
        (bytes) => {
          // Ready for the next: what it was asked is done.
          if (!link.losing) client.write(bytes);
          else if (bytes[0] === "Z".charCodeAt(0)) {
            link.losing();
            end(link);
          }
        },
        () => this.#deaf,
      ),
    );
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#links.delete(link);
        end(link);
      });
    }
  }

  async #late({ client, server }: Link, chunk: Buffer): Promise<void> {
    client.pause();
    await systemClock.sleep(this.#commitsWaitMs);
    server.write(chunk);
    if (!this.#hung) client.resume();
  }
}

const kindOf = (chunk: Buffer): ConnectionKind | undefined => {
  if (chunk.includes("LISTEN ") || chunk.includes("listen ")) return "listen";
  return chunk.includes("tcp_keepalives_idle") ? "coordination" : undefined;
};

const end = ({ client, server }: Link): void => {
  client.destroy();
  server.destroy();
};
