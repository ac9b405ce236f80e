import { connect, type Socket } from "node:net";
import { Probe } from "@rootstock/service";
import { InputNotTaken, RuntimeFailure, SessionNotRunning } from "../runtime.ts";
import { type HostRequest, hostMessage, MAX_LINE_BYTES } from "./hostProtocol.ts";
import { LineReader, parseLine } from "./lines.ts";

interface Reply {
  readonly output?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly acknowledgesInput?: boolean | undefined;
}

type Asked<T> = T extends { id: number } ? Omit<T, "id"> : never;

/** A connection to a session host. */
export class HostClient {
  readonly output = new Probe<Buffer>();
  /** So many more bytes of input are in the program's terminal. */
  readonly taken = new Probe<number>();
  /** The program in the session has ended. */
  readonly exited = new Probe<number>();
  /** The connection is gone, whether or not the program has ended. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (err: Error) => void }>();
  #nextId = 1;
  #exitCode: number | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const lines = new LineReader(MAX_LINE_BYTES, (line) => this.#onLine(line));
    socket.on("data", (bytes) => {
      try {
        lines.push(bytes);
      } catch {
        socket.destroy();
      }
    });
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        for (const { reject } of this.#waiting.values()) reject(new SessionNotRunning("the session has ended"));
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /** @throws SessionNotRunning when nobody listens there */
  static open(socketPath: string): Promise<HostClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(socketPath);
      socket.once("connect", () => resolve(new HostClient(socket)));
      socket.once("error", (cause) => reject(new SessionNotRunning("no session listens", { cause })));
    });
  }

  /** Set once the program has ended. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** @throws RuntimeFailure with the host's reason, as `InputNotTaken` when it is that; SessionNotRunning when it goes away */
  request(request: Asked<HostRequest>): Promise<Reply> {
    if (this.#socket.destroyed) return Promise.reject(new SessionNotRunning("the session has ended"));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send({ ...request, id });
    });
  }

  /** Sends what has no reply; `sent` is called once it has left this process. */
  tell(request: Extract<HostRequest, { op: "input" | "resize" }>, sent?: () => void): void {
    this.#send(request, sent);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(request: object, sent?: () => void): void {
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(request)}\n`, (err) => err ?? sent?.());
  }

  #onLine(line: string): void {
    const parsed = hostMessage.safeParse(parseLine(line));
    if (!parsed.success) return;
    const message = parsed.data;
    if ("event" in message) {
      if (message.event === "output") this.output.emit(Buffer.from(message.data, "base64"));
      else if (message.event === "taken") this.taken.emit(message.bytes);
      else {
        this.#exitCode = message.exitCode;
        this.exited.emit(message.exitCode);
      }
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if ("error" in message)
      waiting?.reject(new (message.inputNotTaken ? InputNotTaken : RuntimeFailure)(message.error));
    else waiting?.resolve(message);
  }
}
