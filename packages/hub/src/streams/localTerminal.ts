import { type Registry, type StreamHandler, TunnelError } from "../control/index.ts";
import type { Terminal, TerminalRequest } from "./terminal.ts";

/** Opens a terminal over a socket that this replica holds; undefined when it holds none. */
export const openHere = (
  registry: Registry,
  request: TerminalRequest,
  handler: StreamHandler,
): Terminal | undefined => {
  const connection = registry.get(request.runtimeBrokerId);
  if (!connection) return undefined;
  const { slug, projectId, cols, rows, readonly } = request;
  try {
    const handle = connection.openStream(
      { streamType: "pty", slug, projectId, cols, rows, ...(readonly && { readonly }) },
      handler,
    );
    return {
      write: (data) => void handle.write(data),
      resize: (c, r) => handle.resize(c, r),
      consumed: (bytes) => handle.consumed(bytes),
      close: (reason) => handle.close(reason, 0),
    };
  } catch (err) {
    if (err instanceof TunnelError) return undefined;
    throw err;
  }
};
