import { connect, createServer, type Server, type Socket } from "node:net";
import { systemClock } from "@rootstock/service";
import { clientMessages, serverMessages } from "./postgresMessages.ts";
import type { ConnectionKind } from "./schedule.ts";

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  kind: ConnectionKind;
  /** What the client says and does not get through. */
  held: Buffer[] | undefined;
  losing: (() => void) | undefined;
  /** What the server said and the client does not hear, where it stays open meanwhile. */
  kept: Buffer[] | undefined;
  losesCommit: (() => void) | undefined;
}

interface Losing {
  readonly words: string;
  readonly ofCommit: boolean;
  readonly stays: boolean;
  readonly lost: (link: Link) => void;
}

interface Holding {
  readonly words: string;
  readonly reached: (link: Link) => void;
}

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
  #refusing = false;
  #commitsWaitMs = 0;
  #losing: Losing | undefined;
  #holding: Holding | undefined;

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
    return new Promise((resolve) => {
      this.#losing = { words, ofCommit, stays: false, lost: () => resolve() };
    });
  }

  /**
   * Keeps what the server says to the next statement with these words from the replica, which waits for it from then on.
   * Resolves when the statement has been carried out, with what lets the answer through.
   */
  holdAnswer(words: string): Promise<() => void> {
    return new Promise((resolve) => {
      const lost = (link: Link) => resolve(() => hearKept(link));
      this.#losing = { words, ofCommit: false, stays: true, lost };
    });
  }

  /** Takes a `loseAnswer` back that has found no statement. */
  keepAnswers(): void {
    this.#losing = undefined;
  }

  /** Keeps the next statement with these words from the server. Resolves when it has come, with what lets it through. */
  hold(words: string): Promise<() => void> {
    return new Promise((resolve) => {
      this.#holding = { words, reached: (link) => resolve(() => this.#letThrough(link)) };
    });
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

  /** While it refuses, no connection is to be had, and those that there were have ended. */
  set refusing(refusing: boolean) {
    this.#refusing = refusing;
    if (refusing) for (const link of [...this.#links]) end(link);
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
    if (this.#refusing) {
      client.on("error", () => {}).destroy();
      return;
    }
    const server = connect(Number(this.#target.port), this.#target.hostname);
    const link: Link = {
      client,
      server,
      kind: "pool",
      held: undefined,
      losing: undefined,
      kept: undefined,
      losesCommit: undefined,
    };
    this.#links.add(link);
    client.setNoDelay(true);
    server.setNoDelay(true);
    if (this.#hung) for (const socket of [client, server]) socket.pause();
    client.on(
      "data",
      clientMessages((message, statement) => this.#say(link, message, statement)),
    );
    server.on(
      "data",
      serverMessages((message, type) => this.#hear(link, message, type)),
    );
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#links.delete(link);
        end(link);
      });
    }
  }

  #say(link: Link, message: Buffer, statement: string): void {
    if (link.kind === "pool" && statement !== "") {
      link.kind = kindOf(statement) ?? "pool";
      const losing = this.#losing;
      if (losing && statement.includes(losing.words)) {
        const lost = () => losing.lost(link);
        if (losing.ofCommit) link.losesCommit = lost;
        else link.losing = lost;
        link.kept = losing.stays ? [] : undefined;
        this.#losing = undefined;
      }
      if (link.losesCommit && statement === "commit") link.losing = link.losesCommit;
      if (this.#holding && statement.includes(this.#holding.words)) {
        link.held = [];
        this.#holding.reached(link);
        this.#holding = undefined;
      } else if (this.#commitsWaitMs > 0 && statement === "commit") {
        link.held = [];
        void systemClock.sleep(this.#commitsWaitMs).then(() => this.#letThrough(link));
      }
    }
    if (link.held) link.held.push(message);
    else link.server.write(message);
  }

  #hear(link: Link, message: Buffer, type: string): void {
    if (type === NOTIFICATION && this.#deaf) return;
    if (!link.losing) {
      link.client.write(message);
      return;
    }
    link.kept?.push(message);
    // Ready for the next: what it was asked is done.
    if (type !== READY) return;
    link.losing();
    if (!link.kept) end(link);
  }

  #letThrough(link: Link): void {
    for (const message of link.held ?? []) link.server.write(message);
    link.held = undefined;
  }
}

const hearKept = (link: Link): void => {
  for (const message of link.kept ?? []) link.client.write(message);
  link.kept = undefined;
  link.losing = undefined;
};

const NOTIFICATION = "A";
const READY = "Z";

const kindOf = (statement: string): ConnectionKind | undefined => {
  if (/^listen /i.test(statement)) return "listen";
  return statement.includes("tcp_keepalives_idle") ? "coordination" : undefined;
};

const end = ({ client, server }: Link): void => {
  client.destroy();
  server.destroy();
};
