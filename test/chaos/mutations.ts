import type { Rule } from "./breach.ts";
import { type CodeCopy, copyCheckout } from "./codeCopy.ts";
import type { LoadShape } from "./round.ts";
import type { Fault, Planned } from "./schedule.ts";

/**
 * Breaches of the product on purpose: a checker that cannot fail proves nothing. Each takes one protection away in a copy
 * of the code, and comes with a schedule in which that shows.
 */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly Edit[];
  /** What the checker has to call it. */
  readonly breaks: Rule;
  readonly when: Circumstances;
}

/** One exact change of a file. */
interface Edit {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** A round that is made for one kind of breach. */
export interface Circumstances {
  readonly seconds: number;
  readonly schedule: readonly Planned[];
  readonly load: LoadShape;
  readonly calls?: readonly number[];
  readonly dials?: readonly number[];
}

/** The world of these rounds: small, and soon over. */
export const SMALL = { replicas: 2, runtimeBrokers: 3, senders: 6, settleMs: 4_000, lateMs: 4_000 };

const messages: LoadShape = { keyed: 0, cycles: false };
const cycles: LoadShape = { keyed: 0, cycles: true };
const every = (fromMs: number, toMs: number, stepMs: number, faults: (n: number) => readonly Fault[]): Planned[] =>
  Array.from({ length: Math.floor((toMs - fromMs) / stepMs) + 1 }, (_, n) => n).flatMap((n) =>
    faults(n).map((fault) => ({ atMs: fromMs + n * stepMs, fault })),
  );
const each = (make: (runtimeBroker: number) => Fault): Fault[] =>
  Array.from({ length: SMALL.runtimeBrokers }, (_, i) => make(i));

/** Runtime brokers dial elsewhere again and again, while the hub's ends of their old connections live on. */
const moving = (load: LoadShape): Circumstances => ({
  seconds: 3,
  load,
  schedule: every(300, 2_700, 400, () => each((runtimeBroker) => ({ kind: "half open", runtimeBroker, forMs: 0 }))),
});
/** They take long to answer. */
const slow: Circumstances = {
  seconds: 2,
  load: messages,
  schedule: every(0, 0, 1, () =>
    each((runtimeBroker) => ({ kind: "slow answers", runtimeBroker, forMs: 2_000, byMs: 250 })),
  ),
};
/** Both: what they worked on when they moved is answered over the old connection. */
const slowAndMoving: Circumstances = {
  seconds: 3,
  load: messages,
  schedule: [
    ...every(0, 0, 1, () =>
      each((runtimeBroker) => ({ kind: "slow answers", runtimeBroker, forMs: 3_000, byMs: 400 })),
    ),
    ...every(100, 100, 1, () =>
      each((runtimeBroker) => ({ kind: "late answers", runtimeBroker, times: 5, everyMs: 500 })),
    ),
  ],
};
/** Every notification is swallowed, and whoever is asked is never the one that holds the sockets. */
const deaf = (load: LoadShape): Circumstances => ({
  seconds: 2,
  load,
  calls: [0],
  dials: [1],
  schedule: every(0, 0, 1, () => [0, 1].map((replica) => ({ kind: "deafen", replica, forMs: 7_000 }))),
});

/** No runtime broker is there for a while. */
const away = (forMs: number, load: LoadShape): Circumstances => ({
  seconds: (forMs + 1_000) / 1_000,
  load,
  schedule: every(300, 300, 1, () => each((runtimeBroker) => ({ kind: "away", runtimeBroker, forMs }))),
});
/** Transactions commit in another order than they began. */
const slowCommits: Circumstances = {
  seconds: 2,
  load: { keyed: 0.5, cycles: false },
  schedule: every(0, 0, 1, () => [{ kind: "slow commits", replica: 0, forMs: 2_000, byMs: 150 }]),
};
/** Every call is made with a key, and many a first answer does not arrive. */
const lostAnswers: Circumstances = { seconds: 2, load: { keyed: 1, cycles: false }, schedule: [] };

const INSERTS = "packages/store/src/queries/messageInserts.ts";
const CLAIMS = "packages/store/src/queries/messageClaims.ts";
const DELIVERIES = "packages/store/src/queries/deliveries.ts";
const ON_THE_WIRE = "packages/hub/src/dispatch/messagesOnWire.ts";
const RECONCILER = "packages/hub/src/dispatch/reconciler.ts";
const DISPATCHER = "packages/hub/src/dispatch/dispatcher.ts";

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "claims without affinity",
    edits: [
      {
        file: "packages/store/src/queries/heldSockets.ts",
        from: `where rb.connected_hub_id = \${given((p) => p.instanceId)} and rb.connected_session_id = h.session`,
        to: "",
      },
      {
        file: INSERTS,
        from: `
         where rb.connected_hub_id = \${instanceId} and rb.connected_session_id = \${sessionId})`,
        to: ")",
      },
    ],
    breaks: "an old connection spoke",
    when: moving(messages),
  },
  {
    name: "operations of whoever believes in its socket",
    edits: [
      {
        file: "packages/store/src/queries/dispatchInserts.ts",
        from: ` and connected_hub_id = \${instanceId}
        and connected_session_id = \${sessionId} for share`,
        to: " for share",
      },
    ],
    breaks: "an old connection spoke",
    when: moving(cycles),
  },
  {
    name: "settling without looking at the claim",
    edits: [
      {
        file: DELIVERIES,
        from: `    (\${isState("delivering")} and m.claimed_by = \${instanceId} and m.claim_session = e.session)
    or`,
        to: `    \${isState("delivering")} or`,
      },
    ],
    breaks: "an old connection spoke",
    when: slowAndMoving,
  },
  {
    name: "acknowledged before it is delivered",
    edits: [
      {
        file: ON_THE_WIRE,
        from: "const result = await locks.message(agentId, () =>",
        to: 'const result = { kind: "acknowledged", reason: "" }; void locks.message(agentId, () =>',
      },
    ],
    breaks: "acknowledged before delivery",
    when: slow,
  },
  {
    name: "the newest message first",
    edits: [
      {
        file: CLAIMS,
        from: "order by m.seq limit 1) as head",
        to: "order by m.seq desc limit 1) as head",
      },
    ],
    breaks: "out of order",
    when: away(4_000, messages),
  },
  {
    name: "sent again under another id",
    edits: [
      {
        file: "packages/hub/src/dispatch/delivery.ts",
        from: "message_id: message.id,",
        to: "message_id: message.attempts > 1 ? crypto.randomUUID() : message.id,",
      },
    ],
    breaks: "duplicated",
    when: slowAndMoving,
  },
  {
    name: "who holds the sockets never looks by itself",
    edits: [
      {
        file: RECONCILER,
        from: "onLookAtEverything(() => void this.#poll.poke())",
        to: "onLookAtEverything(() => {})",
      },
    ],
    breaks: "late",
    when: deaf(messages),
  },
  {
    name: "who waits never reads the row again",
    edits: [
      {
        file: DISPATCHER,
        from: "onLookAtEverything(() => this.#outcomes.lookAtEverything())",
        to: "onLookAtEverything(() => {})",
      },
      { file: DISPATCHER, from: "const QUIET_MS = 20_000;", to: "const QUIET_MS = 6_000;" },
    ],
    breaks: "late",
    when: deaf(cycles),
  },
  {
    name: "whoever gives up does not withdraw",
    edits: [
      {
        file: DISPATCHER,
        from: "if (!(await withdrawDispatch(tx, intent.id, reason))) return false;",
        to: "void withdrawDispatch;",
      },
      { file: DISPATCHER, from: "const QUIET_MS = 20_000;", to: "const QUIET_MS = 1_000;" },
    ],
    breaks: "failed, and ran later",
    when: away(2_500, cycles),
  },
  {
    name: "the last id instead of a snapshot",
    edits: [
      {
        file: "packages/store/src/queries/changes.ts",
        from: `unseen: sql\`(tx >= \${xmax} or tx = any(\${open}))\`,`,
        to: `unseen: sql\`(id > (select coalesce(max(told.id), 0) from change_log told
          where pg_visible_in_snapshot(told.tx, \${given(read)}::pg_snapshot)))\`,`,
      },
    ],
    breaks: "event missed or repeated",
    when: slowCommits,
  },
  {
    name: "whoever comes back from another place is told to read anew",
    edits: [
      {
        file: "packages/hub/src/sse/sseHub.ts",
        from: "if (!given) {",
        to: "if (!given || given.seen.text !== bus.position().seen.text) {",
      },
    ],
    breaks: "event missed or repeated",
    when: away(2_500, messages),
  },
  {
    name: "keys that nobody looks at",
    edits: [
      {
        file: "packages/store/src/queries/idempotency.ts",
        from: "where k.expires_at < now()`.execute(db);\n  return numAffectedRows === 1n;",
        to: "where k.expires_at < now()`.execute(db);\n  return numAffectedRows >= 0n;",
      },
      {
        file: "packages/hub/src/actions/idempotency.ts",
        from: "const known = await getIdempotencyKey(db, key);",
        to: "const known = undefined;",
      },
    ],
    breaks: "idempotent call executed twice",
    when: lostAnswers,
  },
];

/** The code with the mutation in it. Throws when what it replaces is not there. */
export const mutate = async ({ name, edits }: Mutation): Promise<CodeCopy> => {
  const copy = await copyCheckout(name);
  try {
    for (const { file, from, to } of edits) await copy.replace(file, from, to);
    return copy;
  } catch (err) {
    await copy.remove();
    throw err;
  }
};

/** The circumstances without any mutation. */
export const CONTROLS: readonly { readonly name: string; readonly when: Circumstances }[] = [
  { name: "connections that move under operations", when: moving(cycles) },
  { name: "connections that move under slow answers", when: slowAndMoving },
  { name: "runtime brokers that are away", when: away(2_500, cycles) },
  { name: "every signal swallowed", when: deaf(cycles) },
  { name: "slow commits", when: slowCommits },
  { name: "lost answers", when: lostAnswers },
];
