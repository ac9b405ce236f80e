import { createHash } from "node:crypto";
import { type ErrorBody, type ErrorCode, HubError } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  claimIdempotencyKey,
  type Database,
  type Db,
  forgetRefusedKey,
  getIdempotencyKey,
  type IdempotencyRow,
  isRefusedKey,
  keepIdempotentAnswer,
  refuseIdempotencyKey,
  setIdempotentOperation,
  transaction,
} from "@rootstock/store";
import type { z } from "zod";
import { type Principal, principalName } from "../auth/index.ts";
import { orUnknown, untilCertain } from "../dispatch/index.ts";
import type { SecretBox } from "../secrets/index.ts";

/**
 * `Idempotency-Key`: a call that creates, sends or changes a lifecycle runs once per principal and key for 24 hours, on
 * whichever replicas it and its repetitions land.
 *
 * The key is committed together with what the call creates, and beside it an operation: the ids that are enough to
 * finish the call anywhere. A repetition waits for the same end and gets the first answer; it takes over when the first
 * caller's replica died. What was refused before anything was committed leaves no key.
 */

/** What a call answers, before it becomes a response. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** The parts of a call that make it the same call. */
export interface KeyedCall {
  readonly principal: Principal;
  readonly headers: Headers;
  readonly method: string;
  readonly path: string;
  readonly rawBody: Buffer;
  /** The trace that the call belongs to. */
  readonly traceparent?: string | undefined;
}

/** The first half of a keyed call: what only its first caller does. */
export interface KeyedWork<Op> {
  /** Which finisher makes the answer. */
  readonly kind: string;
  /** Commits the call's effects; what it returns is kept beside the key, and is no secret. */
  readonly begin: (tx: Db) => Promise<Op>;
  /** After the commit. */
  readonly begun: (op: Op) => void;
}

/**
 * The second half: waits for the end of an operation and makes its answer, on any replica, from what was kept beside the
 * key alone. `repeated` callers get undefined while there is no end yet; the first one always gets an answer.
 */
export type Finisher = (op: unknown, repeated: boolean) => Promise<Answer | undefined>;

/** A finisher for operations of this shape. */
export const finisher =
  <Op>(shape: z.ZodType<Op>, finish: (op: Op, repeated: boolean) => Promise<Answer | undefined>): Finisher =>
  (op, repeated) =>
    finish(shape.parse(op), repeated);

export interface IdempotencyDeps {
  readonly database: Database;
  readonly box: SecretBox;
  /** By kind. Asked for at the call: the finishers themselves work with what this belongs to. */
  readonly finishers: () => Readonly<Record<string, Finisher>>;
}

const KEY = /^[\x21-\x7e]{1,255}$/;
const PURPOSE = "idempotency-answer";

interface Key {
  readonly principal: string;
  readonly key: string;
  readonly method: string;
  readonly path: string;
  readonly bodyHash: Buffer;
}

export class Idempotency {
  readonly #base: Base;
  readonly #deps: IdempotencyDeps;

  constructor(base: Base, deps: IdempotencyDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /** Whether the call carries a key. Throws 400 for one that is not 1 to 255 visible ASCII characters. */
  isKeyed(call: KeyedCall): boolean {
    return keyOf(call) !== undefined;
  }

  /**
   * Everything about a call, keyed or not: `carryOut` for one that is new, the first one's answer for one that repeats
   * another. That is looked for before anything else, because what the first one did may stand in the way of a second. A
   * refusal that another moment might not have seen is remembered for a while: the same call may be on its way elsewhere
   * still, and must not run after its caller has heard no: not begun, if nobody waits for it any more. When it turns out to have been accepted, its answer is told in the place of the refusal.
   */
  async answer<T>(
    call: KeyedCall & { hungUp(): boolean },
    carryOut: () => Promise<T>,
    repeated: (answer: Answer) => T,
  ): Promise<T> {
    const { db } = this.#deps.database;
    const key = keyOf(call);
    if (!key) return carryOut();
    const known = await getIdempotencyKey(db, key);
    if (known && isRefusedKey(known)) await forgetRefusedKey(db, key);
    else if (known && known.expires_at.getTime() > this.#base.clock.now())
      return repeated(await this.#repeat(key, known));
    // Read late, a call may have been repeated elsewhere and refused there. Its caller, gone, takes no for the answer.
    if (call.hungUp()) throw new HubError("unavailable", "whoever made this call has gone away; nothing was done");
    try {
      return await carryOut();
    } catch (err) {
      if (!isRefusal(err) || call.method === "GET" || (await refuseIdempotencyKey(db, key))) throw err;
      const accepted = await getIdempotencyKey(db, key);
      if (!accepted) throw err;
      return repeated(await this.#repeat(key, accepted));
    }
  }

  /** Carries out a keyed call. */
  async run<Op>(call: KeyedCall, work: KeyedWork<Op>): Promise<Answer> {
    const key = keyOf(call);
    if (!key) throw new Error("run() needs a keyed call");
    // Repeated after it was committed all the same, it finds its own key, and goes on as any repetition.
    const begun = await untilCertain(this.#base, () =>
      transaction(this.#deps.database.db, async (tx) => {
        if (!(await claimIdempotencyKey(tx, key))) return undefined;
        const op = await work.begin(tx);
        await setIdempotentOperation(tx, { ...key, operation: { kind: work.kind, op } });
        return { op };
      }),
    );
    if (begun) {
      work.begun(begun.op);
      const answer = await this.#conclude(key, () => this.#finish(work.kind, begun.op, false));
      if (answer) return answer;
    }
    const row = await getIdempotencyKey(this.#deps.database.db, key);
    if (!row) throw inProgress();
    return this.#repeat(key, row);
  }

  /**
   * Carries out a call whose effects and answer are one transaction, keyed or not. `work` must not reach beyond the
   * database. When its commit's answer is lost, a keyed call is certain to hear what became of it; one without a key only
   * where `work` is `repeatable`: run again after it was committed, it changes nothing and answers the same. Any other
   * hears that nobody knows (503 `unavailable`, `outcome: "unknown"`).
   */
  async once(
    call: KeyedCall,
    work: (tx: Db) => Promise<Answer>,
    options: { readonly repeatable?: boolean } = {},
  ): Promise<Answer> {
    const { database } = this.#deps;
    const key = keyOf(call);
    if (!key) {
      const write = () => transaction(database.db, work);
      return options.repeatable === true ? untilCertain(this.#base, write) : orUnknown(write);
    }
    return untilCertain(this.#base, async () => {
      const answer = await transaction(database.db, async (tx) => {
        if (!(await claimIdempotencyKey(tx, key))) return undefined;
        const made = await work(tx);
        await keepIdempotentAnswer(tx, { ...key, ...(await this.#seal(key, made)) });
        return made;
      });
      if (answer) return answer;
      const row = await getIdempotencyKey(database.db, key);
      if (row) refuseOther(key, row);
      const kept = row && (await this.#open(key, row));
      if (!kept) throw inProgress();
      return kept;
    });
  }

  async #repeat(key: Key, row: IdempotencyRow): Promise<Answer> {
    refuseOther(key, row);
    const kept = await this.#open(key, row);
    if (kept) return kept;
    const { kind, op } = row.operation;
    if (typeof kind !== "string") throw inProgress();
    const answer = await this.#conclude(key, () => this.#finish(kind, op, true));
    if (!answer) throw inProgress();
    return answer;
  }

  #finish(kind: string, op: unknown, repeated: boolean): Promise<Answer | undefined> {
    const finish = this.#deps.finishers()[kind];
    // A kind of a newer release: a replica that knows it will finish the call.
    if (!finish) throw inProgress();
    return finish(op, repeated);
  }

  /** The answer, kept. When somebody else was first, theirs. Undefined when there is none yet. */
  async #conclude(key: Key, finish: () => Promise<Answer | undefined>): Promise<Answer | undefined> {
    let answer: Answer | undefined;
    try {
      answer = await finish();
    } catch (err) {
      // A refusal after the commit is how this operation ended, and every repetition hears the same.
      if (!(err instanceof HubError) || err.code === "request_in_progress") throw err;
      answer = { status: err.status, body: err.toBody() };
    }
    if (!answer) return undefined;
    const { database } = this.#deps;
    if (await keepIdempotentAnswer(database.db, { ...key, ...(await this.#seal(key, answer)) })) return answer;
    const row = await getIdempotencyKey(database.db, key);
    return (row && (await this.#open(key, row))) ?? answer;
  }

  async #seal(key: Key, answer: Answer): Promise<{ status: number; answer: Buffer }> {
    const plain = Buffer.from(JSON.stringify(answer.body ?? null));
    return { status: answer.status, answer: await this.#deps.box.seal(PURPOSE, rowId(key), plain) };
  }

  async #open(key: Key, row: IdempotencyRow): Promise<Answer | undefined> {
    if (row.status === null || row.answer === null) return undefined;
    const plain = await this.#deps.box.open(PURPOSE, rowId(key), row.answer);
    return { status: row.status, body: JSON.parse(plain.toString()) };
  }
}

/** The envelope of an error that became a kept answer. */
export type KeptError = ErrorBody;

const rowId = (key: Key): string => `${key.principal} ${key.key}`;

const keyOf = (call: KeyedCall): Key | undefined => {
  const key = call.headers.get("idempotency-key");
  if (key === null) return undefined;
  if (!KEY.test(key))
    throw new HubError("validation_error", "Idempotency-Key must be 1 to 255 visible ASCII characters", {
      details: { field: "Idempotency-Key" },
    });
  return {
    principal: principalName(call.principal),
    key,
    method: call.method,
    path: call.path,
    bodyHash: createHash("sha256").update(call.rawBody).digest(),
  };
};

const refuseOther = (key: Key, row: IdempotencyRow): void => {
  if (row.method === key.method && row.path === key.path && row.body_hash.equals(key.bodyHash)) return;
  throw new HubError("idempotency_key_reused", "this Idempotency-Key was used for another request", {
    details: { method: row.method, path: row.path },
  });
};

/**
 * Whether a call was refused for what stood in its way at this moment: made elsewhere a moment before, it may have been
 * accepted. What is wrong with a call itself is wrong with it everywhere.
 */
const isRefusal = (err: unknown): boolean =>
  err instanceof HubError &&
  (err.status === 409 || err.status === 503 || STATES.includes(err.code)) &&
  err.code !== "request_in_progress" &&
  err.code !== "idempotency_key_reused" &&
  err.details?.outcome !== "unknown";

/** Besides 409 and 503: that there is no runtime broker to run it, or not the one that was asked for. */
const STATES: readonly ErrorCode[] = ["no_runtime_broker", "unprocessable"];

const inProgress = (): HubError =>
  new HubError("request_in_progress", "the first request with this Idempotency-Key is still under way", {
    retryAfter: 2,
  });
