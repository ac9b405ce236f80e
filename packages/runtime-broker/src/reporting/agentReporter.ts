import { Backoff, type Base, Loop, type Service } from "@rootstock/service";
import { z } from "zod";
import { readTokenFile, writeTokenFile } from "../files.ts";

const REPORT_TIMEOUT_MS = 30_000;
/** Attempts of one report that meets a hub that is not there (spec/06 2.2); afterwards the heartbeats carry the news. */
const MAX_ATTEMPTS = 8;
/** A token is replaced so long before its end; a short-lived one at half of what is left. */
const REFRESH_AHEAD_MS = 2 * 3_600_000;
const REFRESH_LEAST_MS = 1_000;
/** Without a readable token: look again after this, it may have been brought by reset-auth. */
const NO_TOKEN_MS = 60_000;

const refreshAnswer = z.object({ token: z.string().min(1), expires_at: z.string() });
const claims = z.object({ exp: z.number() });

export interface AgentReporterOptions {
  readonly agentId: string;
  readonly home: string;
  readonly hubUrl: () => Promise<string>;
  readonly heartbeatMs: number;
}

/** What the tools of the original report of an agent (spec/06 2.2, 2.3). */
export interface StatusReport {
  readonly phase?: string;
  readonly activity?: string;
  readonly status?: string;
  readonly message?: string;
  readonly currentTurns?: number;
  readonly currentModelCalls?: number;
  readonly startedAt?: string;
  readonly exitCode?: number;
  readonly heartbeat?: boolean;
}

/** The end of a JWT's life in milliseconds since the epoch, unverified; undefined when it is no JWT with an end. */
export const tokenExpiry = (token: string): number | undefined => {
  const [, body, signature] = token.split(".");
  if (!body || signature === undefined) return undefined;
  try {
    const parsed = claims.safeParse(JSON.parse(Buffer.from(body, "base64url").toString("utf8")));
    return parsed.success ? parsed.data.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
};

/**
 * Speaks to the hub for one agent that has no tool inside to do it: says that it runs, that it is alive, how it ended, and
 * keeps its token fresh. The token file is the only memory of the token, so that a new one counts at once.
 */
export class AgentReporter implements Service {
  readonly #base: Base;
  readonly #options: AgentReporterOptions;
  readonly #heartbeats: Loop;
  readonly #refreshes: Loop;
  readonly #stopped = new AbortController();
  #wakeRefresh = new AbortController();
  #last: Promise<void> = Promise.resolve();

  constructor(base: Base, options: AgentReporterOptions) {
    this.#base = base;
    this.#options = options;
    this.#heartbeats = new Loop(base.log, "agent heartbeats", (signal) => this.#beat(signal));
    this.#refreshes = new Loop(base.log, "agent token", (signal) => this.#refresh(signal));
  }

  async start(): Promise<void> {
    await this.#heartbeats.start();
    await this.#refreshes.start();
  }

  /** Ends the loops and gives up reports that have not reached the hub yet. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.all([this.#heartbeats.stop(), this.#refreshes.stop()]);
    await this.#last;
  }

  /** The session takes input. `startedAt`: milliseconds since the epoch. */
  running(startedAt: number): void {
    this.#enqueue({
      phase: "running",
      activity: "working",
      status: "working",
      message: "Agent started",
      currentTurns: 0,
      currentModelCalls: 0,
      startedAt: new Date(startedAt).toISOString(),
    });
  }

  /** The session is being ended on request. */
  stopping(): void {
    this.#enqueue({ phase: "stopping", status: "stopping", message: "Agent shutting down" });
  }

  /** The session has ended: the last words, after which this reporter says no more. */
  async ended(exitCode: number | undefined): Promise<void> {
    await Promise.all([this.#heartbeats.stop(), this.#refreshes.stop()]);
    this.#enqueue(
      exitCode === 0
        ? { phase: "stopped", status: "stopped", message: "Agent stopped" }
        : {
            phase: "error",
            status: "error",
            message: exitCode === undefined ? "Agent ended unseen" : `Agent crashed with exit code ${exitCode}`,
            exitCode: exitCode ?? 255,
          },
    );
    await this.#last;
  }

  /** The token file has a new token: makes sure that it is looked at now. */
  tokenChanged(): void {
    this.#wakeRefresh.abort();
  }

  /** One report after the other: a late "running" must not follow "stopped". */
  #enqueue(report: StatusReport): void {
    this.#last = this.#last.then(() => this.#report(report)).catch(() => {});
  }

  async #report(report: StatusReport): Promise<void> {
    const backoff = new Backoff({ firstMs: 500, maxMs: 5_000, jitter: 0.2 }, this.#base.random);
    for (let attempt = 1; attempt <= MAX_ATTEMPTS && !this.#stopped.signal.aborted; attempt++) {
      const status = await this.#post("status", report).then(
        (response) => response.status,
        () => undefined,
      );
      if (status !== undefined && status < 500) {
        if (status >= 400) this.#base.log.warn({ status, phase: report.phase }, "the hub refused an agent's report");
        return;
      }
      await this.#base.clock.sleep(backoff.next(), this.#stopped.signal);
    }
  }

  async #beat(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#base.clock.sleep(this.#options.heartbeatMs, signal);
      if (signal.aborted) return;
      await this.#post("status", { heartbeat: true }).catch((err: unknown) => {
        this.#base.log.debug({ err }, "agent heartbeat failed");
      });
    }
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#base;
    const backoff = new Backoff({ firstMs: 30_000, maxMs: 300_000, jitter: 0.2 }, random);
    let failed = false;
    while (!signal.aborted) {
      const token = await readTokenFile(this.#options.home);
      const expiry = token === undefined ? undefined : tokenExpiry(token);
      const left = expiry === undefined ? 0 : expiry - clock.now();
      const ahead = left > REFRESH_AHEAD_MS ? left - REFRESH_AHEAD_MS : left / 2;
      const waitMs = failed ? backoff.next() : Math.max(ahead, REFRESH_LEAST_MS);
      this.#wakeRefresh = new AbortController();
      await clock.sleep(
        expiry === undefined ? NO_TOKEN_MS : waitMs,
        AbortSignal.any([signal, this.#wakeRefresh.signal]),
      );
      if (signal.aborted) return;
      if (expiry === undefined || this.#wakeRefresh.signal.aborted) {
        failed = false;
        backoff.reset();
        continue;
      }
      failed = !(await this.#refreshOnce().catch((err: unknown) => {
        log.warn({ err }, "refreshing an agent's token failed");
        return false;
      }));
      if (!failed) backoff.reset();
    }
  }

  async #refreshOnce(): Promise<boolean> {
    const response = await this.#post("token/refresh");
    if (response.status !== 200) {
      this.#base.log.warn({ status: response.status }, "the hub did not refresh an agent's token");
      return false;
    }
    const answer = refreshAnswer.parse(JSON.parse(response.text));
    await writeTokenFile(this.#options.home, answer.token);
    return true;
  }

  async #post(what: string, body?: StatusReport): Promise<{ status: number; text: string }> {
    const token = await readTokenFile(this.#options.home);
    if (token === undefined) return { status: 401, text: "" };
    const path = `/api/v1/agents/${encodeURIComponent(this.#options.agentId)}/${what}`;
    const response = await fetch(new URL(path, await this.#options.hubUrl()), {
      method: "POST",
      redirect: "error",
      signal: AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(REPORT_TIMEOUT_MS)]),
      headers: { "content-type": "application/json", "x-scion-agent-token": token },
      ...(body && { body: JSON.stringify(body) }),
    });
    return { status: response.status, text: await response.text() };
  }
}
