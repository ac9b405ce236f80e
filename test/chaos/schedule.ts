import { Dice } from "./dice.ts";

/** The faults of a round, drawn from its seed alone. */
export type Fault =
  /** `version`: the code with which the process in that place starts again, where there are two. */
  | {
      readonly kind: "kill" | "terminate";
      readonly replica: number;
      readonly downMs: number;
      readonly version?: number;
    }
  | { readonly kind: "pause"; readonly replica: number; readonly forMs: number }
  | { readonly kind: "cut"; readonly replica: number; readonly connections: ConnectionKind }
  | { readonly kind: "end backends"; readonly replica: number }
  /** The pool's connection breaks after the server has carried out the next statement like this, before its answer. */
  | { readonly kind: "lose answer"; readonly replica: number; readonly statement: Statement }
  | { readonly kind: "deafen"; readonly replica: number; readonly forMs: number }
  /** What the replica and the database say to each other does not arrive until the time is over; nothing is refused. */
  | { readonly kind: "hang"; readonly replica: number; readonly forMs: number }
  | { readonly kind: "hang database"; readonly forMs: number }
  /** Each COMMIT of the replica reaches the database so much later. */
  | { readonly kind: "slow commits"; readonly replica: number; readonly forMs: number; readonly byMs: number }
  | { readonly kind: "restart database" | "crash database"; readonly downMs: number }
  /** The replica's wall clock jumps, and back. */
  | { readonly kind: "skew clock"; readonly replica: number; readonly forMs: number; readonly byMs: number }
  | { readonly kind: "flap"; readonly runtimeBroker: number; readonly times: number }
  /** The runtime broker is gone for a while, and dials nobody. */
  | { readonly kind: "away"; readonly runtimeBroker: number; readonly forMs: number }
  /** Frames vanish in both directions; when the time is over the runtime broker dials anew, and the hub's end stays. */
  | { readonly kind: "half open"; readonly runtimeBroker: number; readonly forMs: number }
  /** The runtime broker dials anew while it works; what it answers over the old connection arrives late. */
  | { readonly kind: "late answers"; readonly runtimeBroker: number; readonly times: number; readonly everyMs: number }
  | { readonly kind: "slow answers"; readonly runtimeBroker: number; readonly forMs: number; readonly byMs: number };

/** Words that the statement contains. */
export type Statement = (typeof STATEMENTS)[number];
const STATEMENTS = [
  "insert into messages",
  "update messages m set state = 'delivering'",
  "update messages m set state = 'delivered'",
  "insert into broker_dispatch",
  "update broker_dispatch d set state = 'in_progress'",
  "update broker_dispatch d set state = 'done'",
  "commit",
  "connected_session_id =",
] as const;

export type ConnectionKind = "listen" | "coordination" | "pool";

/** A fault and when it strikes, in milliseconds since the load began. */
export interface Planned {
  readonly atMs: number;
  readonly fault: Fault;
}

export interface World {
  readonly replicas: number;
  readonly runtimeBrokers: number;
  readonly seconds: number;
  /** How many versions of the code there are. */
  readonly versions: number;
}

/** Longer than a replica's lease of ten seconds. */
const PAUSE_MS = { min: 10_500, max: 12_500 };
/** How far a clock goes wrong: signatures, whose times both ends compare, allow five minutes. */
const SKEW_MS = { min: 1_000, max: 240_000 };

type Draw = (dice: Dice, world: World) => Fault;

const replicaOf = (dice: Dice, world: World): number => dice.between(0, world.replicas - 1);
const runtimeBrokerOf = (dice: Dice, world: World): number => dice.between(0, world.runtimeBrokers - 1);

/** How often each kind is drawn, and how. */
const KINDS: readonly { readonly weight: number; readonly draw: Draw }[] = [
  {
    weight: 4,
    draw: (dice, world) => ({
      kind: "kill",
      replica: replicaOf(dice, world),
      downMs: dice.between(100, 2_500),
      version: dice.between(0, world.versions - 1),
    }),
  },
  {
    weight: 3,
    draw: (dice, world) => ({
      kind: "terminate",
      replica: replicaOf(dice, world),
      downMs: dice.between(100, 1_500),
      version: dice.between(0, world.versions - 1),
    }),
  },
  {
    weight: 1,
    draw: (dice, world) => ({
      kind: "pause",
      replica: replicaOf(dice, world),
      forMs: dice.between(PAUSE_MS.min, PAUSE_MS.max),
    }),
  },
  {
    weight: 1,
    draw: (dice, world) => ({ kind: "pause", replica: replicaOf(dice, world), forMs: dice.between(300, 4_000) }),
  },
  {
    weight: 4,
    draw: (dice, world) => ({
      kind: "cut",
      replica: replicaOf(dice, world),
      connections: dice.pick(["listen", "coordination", "pool"] as const),
    }),
  },
  {
    weight: 4,
    draw: (dice, world) => ({
      kind: "lose answer",
      replica: replicaOf(dice, world),
      statement: dice.pick(STATEMENTS),
    }),
  },
  { weight: 1, draw: (dice, world) => ({ kind: "end backends", replica: replicaOf(dice, world) }) },
  {
    weight: 2,
    draw: (dice, world) => ({ kind: "deafen", replica: replicaOf(dice, world), forMs: dice.between(1_000, 5_000) }),
  },
  {
    weight: 2,
    draw: (dice, world) => ({ kind: "hang", replica: replicaOf(dice, world), forMs: dice.between(500, 6_000) }),
  },
  { weight: 1, draw: (dice) => ({ kind: "hang database", forMs: dice.between(500, 6_000) }) },
  {
    weight: 2,
    draw: (dice, world) => ({
      kind: "slow commits",
      replica: replicaOf(dice, world),
      forMs: dice.between(1_000, 4_000),
      byMs: dice.between(20, 400),
    }),
  },
  { weight: 1, draw: (dice) => ({ kind: "restart database", downMs: dice.between(0, 1_500) }) },
  { weight: 1, draw: (dice) => ({ kind: "crash database", downMs: dice.between(0, 1_500) }) },
  {
    weight: 3,
    draw: (dice, world) => ({
      kind: "skew clock",
      replica: replicaOf(dice, world),
      forMs: dice.between(1_000, 8_000),
      byMs: dice.pick([-1, 1]) * dice.between(SKEW_MS.min, SKEW_MS.max),
    }),
  },
  {
    weight: 4,
    draw: (dice, world) => ({
      kind: "flap",
      runtimeBroker: runtimeBrokerOf(dice, world),
      times: dice.between(1, 3),
    }),
  },
  {
    weight: 2,
    draw: (dice, world) => ({
      kind: "away",
      runtimeBroker: runtimeBrokerOf(dice, world),
      forMs: dice.between(200, 8_000),
    }),
  },
  {
    weight: 3,
    draw: (dice, world) => ({
      kind: "half open",
      runtimeBroker: runtimeBrokerOf(dice, world),
      forMs: dice.between(0, 4_000),
    }),
  },
  {
    weight: 2,
    draw: (dice, world) => ({
      kind: "late answers",
      runtimeBroker: runtimeBrokerOf(dice, world),
      times: dice.between(1, 3),
      everyMs: dice.between(100, 600),
    }),
  },
  {
    weight: 3,
    draw: (dice, world) => ({
      kind: "slow answers",
      runtimeBroker: runtimeBrokerOf(dice, world),
      forMs: dice.between(500, 4_000),
      byMs: dice.between(100, 2_500),
    }),
  },
];

const GAP_MS = { min: 300, max: 2_000 };
/** How often a fault comes together with the one before, and how long after it. */
const TOGETHER = { chance: 0.3, withinMs: 60 };

/** The schedule of a round: the same for the same seed and world. */
export const drawSchedule = (seed: number, world: World): readonly Planned[] => {
  const dice = new Dice(seed);
  const tickets = KINDS.flatMap(({ weight, draw }) => Array.from({ length: weight }, () => draw));
  const planned: Planned[] = [];
  const gap = () =>
    dice.chance(TOGETHER.chance) ? dice.between(0, TOGETHER.withinMs) : dice.between(GAP_MS.min, GAP_MS.max);
  for (let atMs = dice.between(GAP_MS.min, GAP_MS.max); atMs < world.seconds * 1_000; atMs += gap())
    planned.push({ atMs, fault: dice.pick(tickets)(dice, world) });
  return planned;
};

/** A schedule for people. */
export const tell = (schedule: readonly Planned[]): string =>
  schedule
    .map(({ atMs, fault }) => {
      const { kind, ...rest } = fault;
      const particulars = Object.entries(rest).map(([name, value]) => `${name}=${value}`);
      return `  ${(atMs / 1_000).toFixed(1).padStart(5)} s  ${kind} ${particulars.join(" ")}`;
    })
    .join("\n");
