import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** A process of its own that answers calls: what must not share a thread with the load it is measured by. */
export interface Worker {
  readonly pid: number;
  /** Calls a method of the worker. Rejects with what it threw, or when it has ended. */
  call<T>(method: string, argument?: unknown): Promise<T>;
  stop(): Promise<void>;
}

interface Request {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** Starts `test/bench/processes/<file>`. */
export const startWorker = async (file: string): Promise<Worker> => {
  const child: ChildProcess = fork(fileURLToPath(new URL(`processes/${file}`, import.meta.url)), {
    serialization: "advanced",
    env: { PATH: process.env.PATH },
  });
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (err: Error) => void }>();
  let next = 0;
  child.on("message", (message: Answer) => {
    const wait = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error !== undefined) wait?.reject(new Error(message.error));
    else wait?.resolve(message.value as never);
  });
  child.on("exit", (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`${file} ended with ${code}`));
    waiting.clear();
  });
  await once(child, "spawn");
  const call = <T>(method: string, argument?: unknown): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      next += 1;
      waiting.set(next, { resolve, reject });
      child.send({ id: next, method, argument } satisfies Request);
    });
  return {
    pid: child.pid ?? 0,
    call,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
};

/** The worker's side: answers calls by these methods, and ends with the process that started it. */
export const serveWorker = (methods: Readonly<Record<string, (argument: never) => unknown>>): void => {
  process.on("disconnect", () => process.exit(0));
  process.on("message", (request: Request) => {
    const method = methods[request.method];
    const answer = (a: Omit<Answer, "id">) => void process.send?.({ id: request.id, ...a });
    Promise.resolve()
      .then(() => {
        if (!method) throw new Error(`no method ${request.method}`);
        return method(request.argument as never);
      })
      .then(
        (value) => answer({ value }),
        (err: unknown) => answer({ error: err instanceof Error ? (err.stack ?? err.message) : String(err) }),
      );
  });
};
