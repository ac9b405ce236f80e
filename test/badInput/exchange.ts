import { connect } from "node:net";

/** Sends bytes over a connection of their own, and gives what came back until the other end closed or fell silent. */
export const exchange = (url: string, bytes: string, silenceMs = 500): Promise<string> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(url);
    const chunks: Buffer[] = [];
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    const end = () => {
      socket.destroy();
      resolve(Buffer.concat(chunks).toString("latin1"));
    };
    socket.setTimeout(silenceMs, end);
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", end);
    socket.on("close", end);
  });
