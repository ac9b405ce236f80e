import { chmod, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { Clock } from "@rootstock/service";
import { runCommand } from "../runCommand.ts";
import { InputNotTaken } from "../runtime.ts";
import {
  type HostMessage,
  type HostRequest,
  type HostSpec,
  hostRequest,
  MAX_LINE_BYTES,
  MAX_PENDING_BYTES,
} from "./hostProtocol.ts";
import { LineReader, parseLine } from "./lines.ts";
import type { PtySession } from "./session.ts";

/** The session's door: a socket that only this user may open, for any number of runtime broker connections. */
export class HostServer {
  readonly #clock: Clock;
  readonly #spec: HostSpec;
  readonly #session: PtySession;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(clock: Clock, spec: HostSpec, session: PtySession) {
    this.#clock = clock;
    this.#spec = spec;
    this.#session = session;
    this.#server = createServer((socket) => this.#serve(socket));
    session.exited.on((exitCode) => {
      for (const socket of this.#sockets) send(socket, { event: "exit", exitCode });
    });
  }

  async listen(): Promise<void> {
    await rm(this.#spec.socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#spec.socketPath, resolve);
    });
    await chmod(this.#spec.socketPath, 0o600);
  }

  /** Closes the door once everything said has been sent. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.end();
    await Promise.race([closed, this.#clock.sleep(1_000)]);
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(socket: Socket): void {
    const connection = new HostConnection(this.#clock, this.#spec, this.#session, socket);
    this.#sockets.add(socket);
    const lines = new LineReader(MAX_LINE_BYTES, (line) => {
      const request = hostRequest.safeParse(parseLine(line));
      if (request.success) void connection.handle(request.data);
    });
    socket.on("data", (bytes) => {
      try {
        lines.push(bytes);
      } catch {
        socket.destroy();
      }
    });
    socket.on("error", () => {});
    socket.once("close", () => {
      this.#sockets.delete(socket);
      connection.close();
    });
    if (this.#session.exitCode !== undefined) send(socket, { event: "exit", exitCode: this.#session.exitCode });
  }
}

const send = (socket: Socket, message: HostMessage): void => {
  if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
};

/** One connection: replies to its requests, and the terminal's output once it has attached. */
class HostConnection {
  readonly #clock: Clock;
  readonly #spec: HostSpec;
  readonly #session: PtySession;
  readonly #socket: Socket;
  #untakenBytes = 0;
  #leave: (() => void) | undefined;

  constructor(clock: Clock, spec: HostSpec, session: PtySession, socket: Socket) {
    this.#clock = clock;
    this.#spec = spec;
    this.#session = session;
    this.#socket = socket;
  }

  close(): void {
    this.#leave?.();
    this.#leave = undefined;
  }

  async handle(request: HostRequest): Promise<void> {
    if (request.op === "input") return this.#input(Buffer.from(request.data, "base64"));
    if (request.op === "resize") return this.#session.resize(request);
    try {
      send(this.#socket, { id: request.id, ...(await this.#answer(request)) });
    } catch (err) {
      const error = err instanceof Error ? err.message : String(err);
      send(this.#socket, { id: request.id, error, ...(err instanceof InputNotTaken && { inputNotTaken: true }) });
    }
  }

  /** A runtime broker of an older version does not wait for what was taken: above the bound it is cut off. */
  #input(data: Buffer): void {
    const bytes = data.byteLength;
    if (bytes === 0) return;
    this.#untakenBytes += bytes;
    if (this.#untakenBytes > 2 * MAX_PENDING_BYTES) {
      this.#socket.destroy();
      return;
    }
    this.#session.input(data, () => {
      this.#untakenBytes -= bytes;
      send(this.#socket, { event: "taken", bytes });
    });
  }

  async #answer(
    request: Exclude<HostRequest, { op: "input" | "resize" }>,
  ): Promise<{ output?: string; exitCode?: number; acknowledgesInput?: true }> {
    switch (request.op) {
      case "type":
        await this.#session.type({
          text: request.text,
          raw: request.raw,
          interruptKey: request.interruptKey,
          messageId: request.messageId,
        });
        return {};
      case "exec":
        return runCommand(this.#clock, { ...request, cwd: this.#spec.cwd, env: this.#spec.env });
      case "capture":
        return { output: await this.#session.capture(request.escapes) };
      case "stop":
        await this.#session.stop(request.graceMs);
        return {};
      case "attach":
        await this.#attach(request);
        return { acknowledgesInput: true };
    }
  }

  async #attach(request: {
    readonly cols: number;
    readonly rows: number;
    readonly readonly?: boolean | undefined;
  }): Promise<void> {
    if (this.#leave) throw new Error("this connection is attached already");
    const leave = this.#session.addViewer();
    if (!request.readonly) this.#session.resize(request);
    const viewing = new Viewing(this.#session, this.#socket);
    this.#leave = () => {
      viewing.end();
      leave();
    };
    await viewing.paint();
  }
}

/** A wide screen in many colours takes megabytes: far more than one line may have. */
const PIECE_BYTES = 65_536;

/** What one viewer is sent. The program never waits for a viewer; one that has fallen behind is shown the screen anew. */
class Viewing {
  readonly #session: PtySession;
  readonly #socket: Socket;
  readonly #off: () => void;
  readonly #onDrain = () => void this.#catchUp();
  /** Output since the picture that is being made was asked for. Undefined: output is passed on. */
  #held: Buffer[] | undefined = [];
  #behind = false;

  constructor(session: PtySession, socket: Socket) {
    this.#session = session;
    this.#socket = socket;
    this.#off = session.output.on((data) => this.#show(data));
    socket.on("drain", this.#onDrain);
  }

  end(): void {
    this.#off();
    this.#socket.off("drain", this.#onDrain);
  }

  /** The picture holds what came before the question; what came since follows it. */
  async paint(): Promise<void> {
    const held: Buffer[] = [];
    this.#held = held;
    this.#behind = false;
    const picture = await this.#session.repaint();
    this.#held = undefined;
    const painting = Buffer.from(picture);
    for (let at = 0; at < painting.byteLength; at += PIECE_BYTES) this.#send(painting.subarray(at, at + PIECE_BYTES));
    for (const data of held) this.#show(data);
  }

  #show(data: Buffer): void {
    if (this.#held) {
      this.#held.push(data);
      return;
    }
    this.#behind ||= this.#socket.writableLength > MAX_PENDING_BYTES;
    if (!this.#behind) this.#send(data);
  }

  #send(data: Buffer): void {
    send(this.#socket, { event: "output", data: data.toString("base64") });
  }

  async #catchUp(): Promise<void> {
    if (this.#behind && !this.#socket.destroyed) await this.paint();
  }
}
