import { createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import pg from "pg";

/** A proxy that pools transactions, as PgBouncer does, in front of a real server. */
export interface TransactionPooler {
  /** The pooled way to the same database. */
  readonly url: string;
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
  readonly client: pg.Client;
  readonly #socket: Duplex;
  #reply: (whole: Buffer) => void = () => {};
  #ended: (inTransaction: boolean) => void = () => {};

  private constructor(client: pg.Client, socket: Duplex) {
    this.client = client;
    this.#socket = socket;
    socket.removeAllListeners("data");
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
    return new Backend(client, socket);
  }

  run(bytes: Buffer, reply: (whole: Buffer) => void): Promise<boolean> {
    return new Promise((resolve) => {
      this.#reply = reply;
      this.#ended = resolve;
      this.#socket.write(bytes);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/**
 * Starts a pooler with `size` server connections that are handed out in turn, the least recently used first: whoever
 * relies on session state behind it notices soon.
 */
export const startTransactionPooler = async (url: string, size = 3): Promise<TransactionPooler> => {
  const idle: Backend[] = await Promise.all(Array.from({ length: size }, () => Backend.open(url)));
  const all = [...idle];
  const waiting: ((backend: Backend) => void)[] = [];
  const clients = new Set<Socket>();
  const take = (): Promise<Backend> => {
    const backend = idle.shift();
    return backend ? Promise.resolve(backend) : new Promise((resolve) => waiting.push(resolve));
  };
  const giveBack = (backend: Backend): void => {
    const next = waiting.shift();
    if (next) next(backend);
    else idle.push(backend);
  };

  const serve = (client: Socket): void => {
    let pinned: Backend | undefined;
    let batch: Buffer[] = [];
    let last: Promise<void> = Promise.resolve();
    const forward = async (bytes: Buffer): Promise<void> => {
      const backend = pinned ?? (await take());
      pinned = (await backend.run(bytes, (whole) => client.write(whole))) ? backend : undefined;
      if (!pinned) giveBack(backend);
    };
    const receive = messages((type, whole) => {
      if (type === "X") return void client.end();
      batch.push(whole);
      if (type !== "Q" && type !== "S") return;
      const bytes = Buffer.concat(batch);
      batch = [];
      last = last.then(() => forward(bytes));
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
        await pinned.run(ROLLBACK, () => {});
        giveBack(pinned);
      });
    });
  };

  const server = createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const pooled = new URL(url);
  pooled.hostname = "127.0.0.1";
  pooled.port = String(typeof address === "object" && address ? address.port : 0);
  return {
    url: pooled.toString(),
    stop: async () => {
      for (const client of clients) client.destroy();
      for (const backend of all) backend.close();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
};
