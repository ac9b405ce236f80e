import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import pg from "pg";
import { WebSocket, WebSocketServer } from "ws";

/** A floor that can be measured once at a time, and gives back what it holds. */
export interface Floor {
  readonly name: string;
  /** Goes through it once. */
  once(): Promise<void>;
  close(): Promise<void>;
}

const connected = async (url: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return client;
};

const TABLE = `create table if not exists bench_chain
  (id uuid primary key, text text not null, state text not null default 'pending')`;

/** One plain commit: an insert of one row. */
export const commitFloor = async (url: string): Promise<Floor> => {
  const client = await connected(url);
  await client.query(TABLE);
  return {
    name: "commit",
    once: async () => {
      await client.query("insert into bench_chain (id, text) values ($1, $2)", [randomUUID(), "a line of text"]);
    },
    close: () => client.end(),
  };
};

/** Announces notifications to whoever waits for their payload. */
const listen = async (url: string, channel: string) => {
  const client = await connected(url);
  const waiting = new Map<string, () => void>();
  client.on("notification", ({ payload = "" }) => {
    waiting.get(payload)?.();
    waiting.delete(payload);
  });
  await client.query(`listen ${channel}`);
  return {
    next: (payload: string) => new Promise<void>((resolve) => waiting.set(payload, resolve)),
    close: () => client.end(),
  };
};

/** A NOTIFY from one connection to another. */
export const notifyFloor = async (url: string): Promise<Floor> => {
  const sender = await connected(url);
  const listener = await listen(url, "bench_hop");
  return {
    name: "notify hop",
    once: async () => {
      const id = randomUUID();
      const heard = listener.next(id);
      await Promise.all([heard, sender.query("select pg_notify('bench_hop', $1)", [id])]);
    },
    close: async () => {
      await sender.end();
      await listener.close();
    },
  };
};

/** A message to a WebSocket that sends it back. */
export const echoFloor = async (url: string, name = "websocket echo"): Promise<Floor> => {
  const ws = new WebSocket(url, { perMessageDeflate: false });
  await once(ws, "open");
  return {
    name,
    once: async () => {
      const back = once(ws, "message");
      ws.send("a line of text");
      await back;
    },
    close: async () => ws.terminate(),
  };
};

/**
 * What a forwarded call cannot do without (design section 11): insert, signal, claim, WebSocket echo, complete, signal
 * back; on separate connections, in one process.
 */
export const chainFloor = async (url: string): Promise<Floor> => {
  const [entry, owner, signals] = await Promise.all([connected(url), connected(url), connected(url)]);
  await entry.query(TABLE);
  const work = await listen(url, "bench_work");
  const done = await listen(url, "bench_done");
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
  await once(server, "listening");
  server.on("connection", (ws) => ws.on("message", (data) => ws.send(data)));
  const echo = await echoFloor(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return {
    name: "chain",
    once: async () => {
      const id = randomUUID();
      const [heard, ended] = [work.next(id), done.next(id)];
      await entry.query("insert into bench_chain (id, text) values ($1, $2)", [id, "a line of text"]);
      void entry.query("select pg_notify('bench_work', $1)", [id]);
      await heard;
      await owner.query(
        "update bench_chain set state = 'delivering' where id = $1 and state = 'pending' returning text",
        [id],
      );
      await echo.once();
      await owner.query("update bench_chain set state = 'delivered' where id = $1 and state = 'delivering'", [id]);
      void signals.query("select pg_notify('bench_done', $1)", [id]);
      await ended;
    },
    close: async () => {
      await Promise.all([echo.close(), work.close(), done.close(), entry.end(), owner.end(), signals.end()]);
      server.close();
    },
  };
};
