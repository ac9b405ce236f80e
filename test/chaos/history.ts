/** What happened in a round, as facts that were seen from outside. Times are milliseconds since the round began. */
export type Fact =
  /** Somebody began to send a message; `text` is unique to the call and the agent. */
  | {
      readonly kind: "asked";
      readonly at: number;
      readonly call: string;
      readonly agent: string;
      readonly text: string;
      /** More than an unmodified runtime broker reads. */
      readonly oversize?: boolean;
    }
  /** The hub's answer about that message; `status` 0: the connection broke, and nobody knows. */
  | {
      readonly kind: "answered";
      readonly at: number;
      readonly call: string;
      readonly agent: string;
      readonly status: number;
      readonly messageId?: string | undefined;
    }
  /** One of the answers that a call with an `Idempotency-Key` got; some of them never reached the caller. */
  | {
      readonly kind: "answered by key";
      readonly at: number;
      readonly call: string;
      readonly status: number;
      readonly body: string;
    }
  /** A message came through the tunnel. */
  | {
      readonly kind: "received";
      readonly at: number;
      readonly runtimeBroker: string;
      readonly session: string;
      readonly replica: string;
      readonly agent: string;
      readonly messageId: string;
      readonly text: string;
    }
  /** The runtime broker gave it to the agent, and is about to acknowledge it. */
  | {
      readonly kind: "delivered";
      readonly at: number;
      readonly runtimeBroker: string;
      readonly agent: string;
      readonly messageId: string;
      readonly text: string;
    }
  /** It came while the agent did not run: acknowledged and gone, as the original's runtime broker does it. */
  | { readonly kind: "dropped"; readonly at: number; readonly agent: string; readonly messageId: string }
  | {
      readonly kind: "operation asked";
      readonly at: number;
      readonly call: string;
      readonly agent: string;
      readonly verb: Verb;
    }
  /** `unfinished`: answered as still under way. `status` 0: unknown. */
  | {
      readonly kind: "operation answered";
      readonly at: number;
      readonly call: string;
      readonly status: number;
      readonly unfinished: boolean;
    }
  | {
      readonly kind: "execution began";
      readonly at: number;
      readonly execution: string;
      readonly runtimeBroker: string;
      readonly session: string;
      readonly agent: string;
      readonly action: Action;
    }
  | { readonly kind: "execution ended"; readonly at: number; readonly execution: string }
  | {
      readonly kind: "session began";
      readonly at: number;
      readonly runtimeBroker: string;
      readonly session: string;
      readonly replica: string;
    }
  | { readonly kind: "session ended"; readonly at: number; readonly runtimeBroker: string; readonly session: string }
  | {
      readonly kind: "fault";
      readonly at: number;
      readonly until: number;
      readonly what: string;
      /** Whom it struck; neither: everybody. */
      readonly replica?: string;
      readonly runtimeBroker?: string;
    }
  /** A frame of an event stream. `entity` names what it is about, `value` what it says of it. */
  | {
      readonly kind: "event";
      readonly at: number;
      readonly subscriber: string;
      readonly id: string;
      readonly topic: "message" | "agent";
      readonly entity: string;
      readonly value: string;
    }
  | { readonly kind: "resync"; readonly at: number; readonly subscriber: string };

export type Verb = "start" | "stop" | "restart" | "create" | "delete";
/** What a runtime broker executes. */
export type Action = "start" | "stop" | "create" | "delete";

export type FactOf<K extends Fact["kind"]> = Extract<Fact, { readonly kind: K }>;

/** A step of a row's state, as a trigger of the harness wrote it down in the transaction that made it. */
export interface Transition {
  readonly table: "messages" | "broker_dispatch";
  readonly id: string;
  readonly from: string;
  readonly to: string;
  /** The claim before the step. */
  readonly claimedBy: string | null;
  readonly claimSession: string | null;
  /** The claim after it. */
  readonly claimsNow: string | null;
  readonly claimSessionNow: string | null;
  /** Whose the runtime broker was at that moment. */
  readonly ownerHub: string | null;
  readonly ownerSession: string | null;
  /** The instances that the writer's name stands for: a replica is started again under its name. */
  readonly writers: readonly string[];
  /** The text of a message, the operation of an intent. */
  readonly subject: string;
}

/** The database named another socket of a runtime broker than before, or none. */
export interface Move {
  readonly runtimeBroker: string;
  /** Who held the one before. */
  readonly fromHub: string | null;
  readonly from: string | null;
  readonly to: string | null;
  /** The instances that the writer's name stands for. */
  readonly writers: readonly string[];
}

/** What the database holds once everything has come to rest. */
export interface Rest {
  readonly messages: readonly {
    readonly id: string;
    readonly agent: string;
    readonly text: string;
    readonly state: string;
    readonly error?: string | null;
  }[];
  readonly dispatches: readonly {
    readonly id: string;
    readonly agent: string;
    readonly op: string;
    readonly state: string;
    /** How often it was begun. */
    readonly attempts: number;
  }[];
  readonly transitions: readonly Transition[];
  readonly moves: readonly Move[];
  /** Who listened to the events. */
  readonly subscribers: readonly string[];
  /** What the change log says of agents, in its order: what subscribers had to hear. */
  readonly agentChanges: readonly { readonly agent: string; readonly value: string }[];
  /** What the database says that each agent does, and what it does at its runtime broker: all have been asked to run. */
  readonly phases: readonly { readonly agent: string; readonly phase: string; readonly there: string | undefined }[];
  /** What runs at runtime brokers, and whether the hub has a record of it that is not deleted. */
  readonly held: readonly { readonly runtimeBroker: string; readonly slug: string; readonly known: boolean }[];
  /** The session that each runtime broker has, and the one that the database names. */
  readonly sockets: readonly {
    readonly runtimeBroker: string;
    readonly session: string;
    readonly named: string | null;
  }[];
}

/** A round that is over: all that a checker may look at. */
export interface Round {
  readonly facts: readonly Fact[];
  readonly rest: Rest;
}

type Unstamped<F> = F extends Fact ? Omit<F, "at"> : never;

/** Facts in the order in which they were seen. Append only. */
export class History {
  readonly facts: Fact[] = [];
  readonly #began = performance.now();

  now(): number {
    return performance.now() - this.#began;
  }

  add(fact: Unstamped<Fact>): void {
    this.facts.push({ ...fact, at: this.now() } as Fact);
  }

  /** Adds a fault that began at `from` and ends now. */
  addFault(from: number, fault: { what: string; replica?: string; runtimeBroker?: string }): void {
    this.facts.push({ kind: "fault", at: from, until: this.now(), ...fault });
  }
}
