import { createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { freePort, systemRandom } from "@rootstock/service";
import pg from "pg";

/** A proxy that pools transactions, as PgBouncer does, in front of a real server. */
export interface TransactionPooler {
  /** The pooled way to the same database. */
  readonly url: string;
  /** Ends it without a word, with every connection on both sides, and starts it again at the same address. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Start-up parameters that a pooler can keep per client; it refuses all others. */
const TOLERATED = new Set(["user", "database", "application_name", "client_encoding"]);

const message = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type, 0);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};

const text = (...parts: string[]): Buffer => Buffer.from(`${parts.join("\0")}\0`);
const READY = message("Z", Buffer.from("I"));
const GREETING = Buffer.concat([
  message("R", Buffer.alloc(4)),
  ...[
    ["server_version", "18.0"],
    ["client_encoding", "UTF8"],
    ["standard_conforming_strings", "on"],
    ["integer_datetimes", "on"],
  ].map((p) => message("S", text(...p))),
  message("K", Buffer.alloc(8, 1)),
  READY,
]);
const ROLLBACK = message("Q", text("rollback"));

/** Splits a byte stream into protocol messages, each with its type and all of its bytes. */
const messages = (each: (type: string, whole: Buffer) => void) => {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk: Buffer): void => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5) {
      const length = rest.readInt32BE(1) + 1;
      if (rest.length < length) return;
      const whole = rest.subarray(0, length);
      rest = rest.subarray(length);
      each(String.fromCharCode(whole[0] ?? 0), whole);
    }
  };
};

/** A server connection; `reply` takes what the server says until the work under way has ended. */
class Backend {
  readonly #socket: Duplex;
  #reply: (whole: Buffer) => void = () => {};
  #ended: (inTransaction: boolean) => void = () => {};
  #lost: (err: Error) => void = () => {};

  private constructor(socket: Duplex) {
    this.#socket = socket;
    socket.removeAllListeners("data");
    socket.on("close", () => this.#lost(new Error("the server connection has ended")));
    socket.on(
      "data",
      messages((type, whole) => {
        // Notifications belong to nobody here: this is what makes LISTEN deaf behind a pooler.
        if (type === "A") return;
        this.#reply(whole);
        if (type === "Z") this.#ended(whole[5] !== "I".charCodeAt(0));
      }),
    );
  }

  static async open(url: string): Promise<Backend> {
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => {});
    await client.connect();
    // The driver has logged in; from here on its socket carries other clients' messages.
    const socket: Duplex = Reflect.get(Reflect.get(client, "connection"), "stream");
    return new Backend(socket);
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  /** Whether a transaction is open after it. Rejects when the connection ends first. */
  run(bytes: Buffer, reply: (whole: Buffer) => void): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#reply = reply;
      this.#ended = resolve;
      this.#lost = reject;
      this.#socket.write(bytes);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** The server connections: opened when needed, `size` at most, handed out the least recently used first. */
class Backends {
  readonly #url: string;
  readonly #size: number;
  #open = new Set<Backend>();
  #opening = 0;
  #idle: Backend[] = [];
  #waiting: ((backend: Promise<Backend>) => void)[] = [];

  constructor(url: string, size: number) {
    this.#url = url;
    this.#size = size;
  }

  async take(): Promise<Backend> {
    while (this.#idle[0]?.isOpen === false) this.#forget(this.#idle[0]);
    if (this.#open.size + this.#opening < this.#size) return this.#dial();
    return this.#idle.shift() ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  giveBack(backend: Backend): void {
    if (!backend.isOpen) this.#forget(backend);
    const next = this.#waiting.shift();
    if (!next) {
      if (backend.isOpen) this.#idle.push(backend);
    } else next(backend.isOpen ? Promise.resolve(backend) : this.#dial());
  }

  closeAll(): void {
    for (const backend of this.#open) backend.close();
    this.#open = new Set();
    this.#idle = [];
    this.#waiting = [];
  }

  #forget(backend: Backend): void {
    this.#open.delete(backend);
    this.#idle = this.#idle.filter((b) => b !== backend);
  }

  async #dial(): Promise<Backend> {
    this.#opening += 1;
    try {
      const backend = await Backend.open(this.#url);
      this.#open.add(backend);
      return backend;
    } finally {
      this.#opening -= 1;
    }
  }
}

/**
 * Starts a pooler with `size` server connections that are handed out in turn, the least recently used first: whoever
 * relies on session state behind it notices soon.
 */
export const startTransactionPooler = async (url: string, size = 3): Promise<TransactionPooler> => {
  const backends = new Backends(url, size);
  const clients = new Set<Socket>();

  const serve = (client: Socket): void => {
    let pinned: Backend | undefined;
    let batch: Buffer[] = [];
    let last: Promise<void> = Promise.resolve();
    const forward = async (bytes: Buffer): Promise<void> => {
      if (client.destroyed) return;
      const backend = pinned ?? (await backends.take());
      try {
        pinned = (await backend.run(bytes, (whole) => client.write(whole))) ? backend : undefined;
      } catch (err) {
        pinned = undefined;
        throw err;
      } finally {
        if (!pinned) backends.giveBack(backend);
      }
    };
    const receive = messages((type, whole) => {
      if (type === "X") return void client.end();
      batch.push(whole);
      if (type !== "Q" && type !== "S") return;
      const bytes = Buffer.concat(batch);
      batch = [];
      last = last.then(() => forward(bytes)).catch(() => void client.destroy());
    });
    client.once("data", (chunk: Buffer) => {
      const length = chunk.readInt32BE(0);
      const names = chunk.subarray(8, length).toString().split("\0");
      const refused = names.filter((_, i) => i % 2 === 0).find((name) => name !== "" && !TOLERATED.has(name));
      if (refused !== undefined) {
        client.end(message("E", text("SFATAL", "C08P01", `Munsupported startup parameter: ${refused}`, "")));
        return;
      }
      client.write(GREETING);
      client.on("data", receive);
      if (chunk.length > length) receive(chunk.subarray(length));
    });
    clients.add(client);
    client.on("error", () => {});
    client.on("close", () => {
      clients.delete(client);
      void last.then(async () => {
        if (!pinned) return;
        await pinned.run(ROLLBACK, () => {}).catch(() => {});
        backends.giveBack(pinned);
      });
    });
  };

  const server = createServer(serve);
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const end = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const client of clients) client.destroy();
    backends.closeAll();
    await closed;
  };
  const port = await freePort(systemRandom);
  await listen(port);
  const pooled = new URL(url);
  pooled.hostname = "127.0.0.1";
  pooled.port = String(port);
  return {
    url: pooled.toString(),
    restart: async () => {
      await end();
      await listen(port);
    },
    stop: end,
  };
};
