import type { Base } from "@rootstock/service";
import { type Connection, type Registry, type StreamHandler, TunnelError } from "../control/index.ts";
import type { AgentStream, AgentStreamRequest, LogRequest, TerminalRequest } from "./agentStream.ts";
import { PolledLog } from "./polledLog.ts";

/** Opens a stream over a socket that this replica holds; undefined when it holds none. */
export const openHere = (
  base: Base,
  registry: Pick<Registry, "get">,
  request: AgentStreamRequest,
  handler: StreamHandler,
): AgentStream | undefined => {
  const connection = registry.get(request.runtimeBrokerId);
  if (!connection) return undefined;
  try {
    return request.streamType === "pty"
      ? terminal(connection, request, handler)
      : log(base, connection, request, handler);
  } catch (err) {
    if (err instanceof TunnelError) return undefined;
    throw err;
  }
};

const terminal = (connection: Connection, request: TerminalRequest, handler: StreamHandler): AgentStream => {
  const { slug, projectId, cols, rows, readonly } = request;
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
};

const log = (base: Base, connection: Connection, request: LogRequest, handler: StreamHandler): AgentStream => {
  if (!connection.limits.logStreams) return new PolledLog(base, connection, request, handler);
  const { slug, projectId, tail, after } = request;
  const handle = connection.openStream(
    { streamType: "logs", slug, projectId, tail, ...(after !== undefined && { after }) },
    handler,
  );
  return {
    write: () => {},
    resize: () => {},
    consumed: (bytes) => handle.consumed(bytes),
    close: (reason) => handle.close(reason, 0),
  };
};
