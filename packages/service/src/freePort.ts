import { createServer } from "node:net";
import type { Random } from "./random.ts";

const LOOPBACK = "127.0.0.1";

/**
 * Below the ports that systems give to outgoing connections (32,768 and up on Linux, 49,152 elsewhere): what is free here
 * is not taken by somebody's call before the program that it is for has begun to listen, or while it restarts.
 */
const FIRST = 20_000;
const LAST = 32_767;
const ATTEMPTS = 100;

/** Binds `port` on loopback for a moment: false when it is taken, or not allowed for this user. */
export const isFreePort = (port: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (err) => {
      if ("code" in err && (err.code === "EADDRINUSE" || err.code === "EACCES")) resolve(false);
      else reject(err);
    });
    server.listen({ host: LOOPBACK, port, exclusive: true }, () => server.close(() => resolve(true)));
  });

/** A loopback port that nobody has now, for programs that must be told theirs. Throws when it finds none. */
export const freePort = async (random: Random): Promise<number> => {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = FIRST + Math.floor(random.fraction() * (LAST + 1 - FIRST));
    if (await isFreePort(port)) return port;
  }
  throw new Error(`no free port on ${LOOPBACK} between ${FIRST} and ${LAST}`);
};
