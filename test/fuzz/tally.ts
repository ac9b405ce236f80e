import type { Reach } from "./reach.ts";

/** What was answered to one kind of principal. */
export class Tally {
  requests = 0;
  readonly byStatus = new Map<number, number>();
  /** What must not be: a 5xx, whatever it is for, and a connection that broke. */
  readonly faults = new Map<string, Fault>();
  /** Statuses and how often, by operation. */
  readonly byOperation = new Map<string, Map<number, number>>();
  readonly #reach: Reach | undefined;

  constructor(reach?: Reach) {
    this.#reach = reach;
    if (reach) this.byOperation = reach.answers;
  }

  count(answer: Answer): void {
    const { status, request } = answer;
    this.requests += 1;
    add(this.byStatus, status, 1);
    const [method = "", target = ""] = request.split(" ", 2);
    this.#reach?.note(method, target, status);
    if (status >= 500) this.#note(`${status} ${method} ${shape(target)}: ${messageOf(answer.body)}`, answer);
  }

  /** Beside what answers show: a connection that broke. */
  broke(what: string, request: string): void {
    this.requests += 1;
    this.#note(what, { status: 0, request, body: "" });
  }

  get failed(): number {
    return [...this.faults.values()].reduce((sum, { times }) => sum + times, 0);
  }

  /** The part of all requests that were answered with a status of this hundred. */
  share(hundred: number): number {
    const found = [...this.byStatus].filter(([status]) => Math.floor(status / 100) === hundred);
    return found.reduce((sum, [, n]) => sum + n, 0) / Math.max(1, this.requests);
  }

  /** Of the document's operations, those that were carried out at least once. */
  get carriedOut(): number {
    return [...this.byOperation.values()].filter((counts) => [...counts.keys()].some(isDone)).length;
  }

  /** Adds another slice of the same kind. */
  add(other: Tally): void {
    this.requests += other.requests;
    for (const [status, n] of other.byStatus) add(this.byStatus, status, n);
    for (const [name, counts] of other.byOperation) {
      const known = this.byOperation.get(name) ?? new Map<number, number>();
      for (const [status, n] of counts) add(known, status, n);
      this.byOperation.set(name, known);
    }
    for (const [what, fault] of other.faults) {
      const known = this.faults.get(what);
      this.faults.set(what, known ? { ...known, times: known.times + fault.times } : fault);
    }
  }

  #note(what: string, { request, body }: Answer): void {
    const known = this.faults.get(what);
    this.faults.set(
      what,
      known ? { ...known, times: known.times + 1 } : { times: 1, request, body: body.slice(0, SHOWN) },
    );
  }
}

const SHOWN = 1_000;

export interface Answer {
  readonly status: number;
  /** Method, path with query, and the beginning of the body. */
  readonly request: string;
  readonly body: string;
}

interface Fault {
  readonly times: number;
  /** The first one. */
  readonly request: string;
  readonly body: string;
}

const add = (counts: Map<number, number>, status: number, n: number): void => {
  counts.set(status, (counts.get(status) ?? 0) + n);
};

const isDone = (status: number): boolean => status >= 200 && status < 400;

/** Without what differs from request to request. */
const shape = (path: string): string =>
  (path.split("?", 1)[0] ?? "").replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, ":id").slice(0, 120);

const messageOf = (body: string): string => {
  try {
    const { error } = JSON.parse(body) as { readonly error?: { readonly message?: string } };
    return (error?.message ?? body).split(" in {", 1)[0]?.slice(0, 300) ?? "";
  } catch {
    return body.slice(0, 100);
  }
};
