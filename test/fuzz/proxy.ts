import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Identity } from "./identities.ts";
import type { Tally } from "./tally.ts";

/**
 * Stands between the fuzzer and the replicas: shows the credentials of one kind of principal with every request (a
 * runtime broker signs each), goes from replica to replica, ends streams that would never end, and counts.
 */
export interface Proxy {
  readonly url: string;
  stop(): Promise<void>;
}

/** What a principal of a kind shows is ours to say: the fuzzer makes up credentials of its own. */
const CREDENTIALS = /^(authorization|cookie|x-scion-|x-rootstock-|x-goog-)/i;
const HOP_BY_HOP = /^(connection|keep-alive|transfer-encoding|host|proxy-connection|content-length)$/i;
const SHOWN = 600;

export const startProxy = async (
  replicas: readonly { readonly url: string }[],
  identity: Identity,
  tally: Tally,
  /** Told of each answer before it is passed on. */
  heard: (target: string, status: number, body: string) => Promise<void>,
): Promise<Proxy> => {
  let next = 0;
  const answer = async (from: IncomingMessage, to: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of from) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const target = from.url ?? "/";
    const shown = `${from.method} ${target} ${body.toString("utf8").slice(0, SHOWN)}`;
    const own = identity.headers && (await identity.headers({ method: from.method ?? "GET", target, body }));
    const replica = replicas[next++ % replicas.length];
    if (!replica) throw new Error("no replica");
    await new Promise<void>((resolve, reject) => {
      const onward = request(
        new URL(replica.url),
        {
          method: from.method,
          path: target,
          headers: {
            ...passed(from.headers, own !== undefined),
            ...own,
            ...(body.length > 0 && { "content-length": body.length }),
          },
        },
        (reply) => {
          const passOn = async () => {
            const text = await read(reply);
            const status = reply.statusCode ?? 0;
            tally.count({ status, request: shown, body: text });
            if (status === 401) void identity.refused?.();
            await heard(target, status, text);
            const { "transfer-encoding": _, connection: __, "content-length": ___, ...headers } = reply.headers;
            to.writeHead(status, headers);
            to.end(text);
          };
          passOn().then(resolve, reject);
        },
      );
      onward.on("error", (err: NodeJS.ErrnoException) => {
        tally.broke(`the connection broke: ${err.code ?? err.message}`, shown);
        to.destroy();
        resolve();
      });
      onward.end(body);
    });
  };
  const server = createServer({ maxHeaderSize: 65_536 }, (from, to) => {
    void answer(from, to).catch((err: unknown) => {
      tally.broke(`not passed on: ${String(err)}`, `${from.method} ${from.url}`);
      to.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};

const passed = (headers: IncomingHttpHeaders, owned: boolean): IncomingHttpHeaders =>
  Object.fromEntries(
    Object.entries(headers).filter(([name]) => !HOP_BY_HOP.test(name) && !(owned && CREDENTIALS.test(name))),
  );

/** The whole body; of an event stream nothing: it has begun, and that is all there is to see. */
const read = async (reply: IncomingMessage): Promise<string> => {
  if (reply.headers["content-type"]?.startsWith("text/event-stream")) {
    reply.destroy();
    return "";
  }
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of reply) chunks.push(chunk as Buffer);
  } catch {
    // What came is judged as it is.
  }
  return Buffer.concat(chunks).toString("utf8");
};
