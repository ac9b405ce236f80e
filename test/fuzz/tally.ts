/** What was answered to one kind of principal. */
export class Tally {
  requests = 0;
  readonly byStatus = new Map<number, number>();
  /** What must not be: a 5xx that is not declared, an answer that the document does not allow, a crash. */
  readonly faults = new Map<string, Fault>();

  count(answer: Answer): void {
    this.requests += 1;
    this.byStatus.set(answer.status, (this.byStatus.get(answer.status) ?? 0) + 1);
    const fault = faultOf(answer);
    if (fault) this.#note(fault, answer);
  }

  /** Beside what answers show: a connection that broke. */
  broke(what: string, request: string): void {
    this.requests += 1;
    this.#note(what, { status: 0, request, body: "", retryAfter: undefined });
  }

  get failed(): number {
    return [...this.faults.values()].reduce((sum, { times }) => sum + times, 0);
  }

  /** How many were answered with these. */
  of(...statuses: readonly number[]): number {
    return statuses.reduce((sum, status) => sum + (this.byStatus.get(status) ?? 0), 0);
  }

  /** Adds another slice of the same kind. */
  add(other: Tally): void {
    this.requests += other.requests;
    for (const [status, n] of other.byStatus) this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + n);
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
  readonly retryAfter: string | undefined;
}

interface Fault {
  readonly times: number;
  /** The first one. */
  readonly request: string;
  readonly body: string;
}

/**
 * 501 (a part that is not configured) and 502 (a runtime broker that refused or did not answer) are declared where they
 * occur, and counted; so is 503, which must say when to come again unless it is about something that is not configured.
 */
const faultOf = ({ status, body, retryAfter, request }: Answer): string | undefined => {
  if (status < 500 || status === 501 || status === 502) return undefined;
  if (status === 503 && (retryAfter !== undefined || body.includes("not configured"))) return undefined;
  const [method, path = ""] = request.split(" ", 2);
  return `${status} ${method} ${shape(path)}: ${messageOf(body)}`;
};

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
