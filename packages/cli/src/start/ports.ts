import { createServer } from "node:net";
import { CliError } from "../exitCodes.ts";

const LOOPBACK = "127.0.0.1";

/** Binds `port` (0: any) for a moment. The port that was free, or undefined when it is taken. */
const tryPort = (port: number): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (err) => {
      if ("code" in err && (err.code === "EADDRINUSE" || err.code === "EACCES")) resolve(undefined);
      else reject(err);
    });
    server.listen({ host: LOOPBACK, port, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : undefined));
    });
  });

/** `preferred` if it is free, else one that the system chooses. It may be taken again before it is used: rare, and then a start fails and is tried anew. */
export const choosePort = async (preferred: number): Promise<number> => {
  const port = (preferred > 0 && preferred < 65_536 ? await tryPort(preferred) : undefined) ?? (await tryPort(0));
  if (port === undefined) throw new CliError("the system has no free port on 127.0.0.1");
  return port;
};

/**
 * Checks before anything else is started that the port people will use is free.
 * @throws CliError saying how to choose another
 */
export const requireFreePort = async (port: number): Promise<void> => {
  if (port === 0 || (await tryPort(port)) !== undefined) return;
  throw new CliError(
    `port ${port} is taken, or not allowed for this user. Choose another one with --port or ROOTSTOCK_PORT (0: any free one).`,
  );
};
