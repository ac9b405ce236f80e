import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ReplicaProcess, startReplicaProcess } from "@rootstock/testkit";
import { CHECKOUT, type Code } from "./codeCopy.ts";
import type { Dice } from "./dice.ts";
import { PostgresProxy } from "./postgresProxy.ts";

/** A place in the fleet: the process in it changes, its name, its clock and its way to the database stay. */
interface Slot {
  readonly name: string;
  readonly proxy: PostgresProxy;
  readonly clockFile: string;
  code: Code;
  replica: ReplicaProcess | undefined;
  busy: boolean;
  readonly logs: string[];
}

export interface FleetOptions {
  readonly databaseUrl: string;
  readonly replicas: number;
  /** The versions of the code that run side by side; this checkout alone by default. */
  readonly codes?: readonly Code[];
  /** The places that the load balancer gives to callers, and to runtime brokers; all by default. */
  readonly calls?: readonly number[];
  readonly dials?: readonly number[];
}

const SHIFTED_CLOCK = fileURLToPath(new URL("shiftedClock.ts", import.meta.url));
/** Nobody listens here. */
export const NOWHERE = { url: "http://127.0.0.1:1" };

/** The replicas of a round, each behind a proxy of its own. */
export class Fleet {
  readonly #slots: Slot[] = [];
  readonly #names = new Map<string, string>();
  readonly #options: FleetOptions;
  readonly #codes: readonly Code[];
  readonly #folder: string;

  private constructor(options: FleetOptions, folder: string) {
    this.#options = options;
    this.#codes = options.codes ?? [CHECKOUT];
    this.#folder = folder;
  }

  /** Starts the replicas, the versions of the code in turn. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet(options, await mkdtemp(join(tmpdir(), "rootstock-chaos-")));
    process.once("exit", fleet.#kill);
    for (let i = 0; i < options.replicas; i += 1)
      fleet.#slots.push({
        name: `r${i}`,
        proxy: await PostgresProxy.start(options.databaseUrl),
        clockFile: join(fleet.#folder, `clock-${i}`),
        code: fleet.#code(i),
        replica: undefined,
        busy: false,
        logs: [],
      });
    await Promise.all(fleet.#slots.map((slot) => fleet.#launch(slot)));
    return fleet;
  }

  name(index: number): string {
    return this.#slot(index).name;
  }

  proxy(index: number): PostgresProxy {
    return this.#slot(index).proxy;
  }

  get proxies(): readonly PostgresProxy[] {
    return this.#slots.map((s) => s.proxy);
  }

  /** The name of the replica with this URL, now or before. */
  nameOf(url: string): string {
    return this.#names.get(url) ?? url;
  }

  /**
   * A replica for a caller, as a load balancer sees it: it knows of the dead, not of the paused. Another one than `not`,
   * where there is another.
   */
  forCall(dice: Dice, not?: { readonly url: string }): { readonly url: string } {
    const up = this.#up(this.#options.calls);
    const others = up.filter((replica) => replica.url !== not?.url);
    return pickOne(dice, others.length > 0 ? others : up);
  }

  /** A replica for a runtime broker. */
  forDial(dice: Dice): { readonly url: string } {
    return pickOne(dice, this.#up(this.#options.dials));
  }

  /** Has the process of a place in hand while `work` runs; false when there is none, or another fault has it. */
  async withProcess(index: number, work: (replica: ReplicaProcess) => Promise<void>): Promise<boolean> {
    const slot = this.#slot(index);
    if (!slot.replica || slot.busy) return false;
    slot.busy = true;
    try {
      await work(slot.replica);
      return true;
    } finally {
      slot.busy = false;
    }
  }

  /** Takes a process out of the load balancer. */
  remove(index: number): void {
    const slot = this.#slot(index);
    if (slot.replica) slot.logs.push(slot.replica.output());
    slot.replica = undefined;
  }

  /** Fills an empty place, with that version of the code. A start while the database is away fails and is tried again. */
  async fill(index: number, version: number): Promise<void> {
    const slot = this.#slot(index);
    slot.code = this.#code(version);
    while (!slot.replica) await this.#launch(slot).catch(() => {});
  }

  /** Sets the clock of a place wrong by so many milliseconds; a process that is started there later has it too. */
  async skewClock(index: number, byMs: number): Promise<void> {
    const slot = this.#slot(index);
    await writeFile(slot.clockFile, String(byMs));
    slot.replica?.signal("SIGUSR2");
  }

  /** Everything that the replicas have logged, per name. */
  logs(): ReadonlyMap<string, string> {
    return new Map(this.#slots.map((s) => [s.name, [...s.logs, s.replica?.output() ?? ""].join("\n")]));
  }

  async stop(): Promise<void> {
    process.off("exit", this.#kill);
    this.#kill();
    await Promise.all(
      this.#slots.map(async (slot) => {
        await slot.replica?.exited;
        await slot.proxy.stop();
      }),
    );
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Also when the harness itself ends in the middle: a replica that nobody knows of would run for ever. */
  readonly #kill = (): void => {
    for (const { replica } of this.#slots) replica?.signal("SIGKILL");
  };

  async #launch(slot: Slot): Promise<void> {
    slot.replica = await startReplicaProcess({
      databaseUrl: slot.proxy.url,
      name: slot.name,
      code: slot.code.root,
      preload: SHIFTED_CLOCK,
      env: { ROOTSTOCK_POOL_SIZE: "6", ROOTSTOCK_MIGRATE: "0", CHAOS_CLOCK_FILE: slot.clockFile },
    });
    this.#names.set(slot.replica.url, slot.name);
  }

  #up(places: readonly number[] | undefined): ReplicaProcess[] {
    return this.#slots.filter((_, i) => places?.includes(i) ?? true).flatMap((s) => s.replica ?? []);
  }

  #code(version: number): Code {
    return this.#codes[version % this.#codes.length] ?? CHECKOUT;
  }

  #slot(index: number): Slot {
    const slot = this.#slots[index];
    if (!slot) throw new Error(`no replica ${index}`);
    return slot;
  }
}

const pickOne = (dice: Dice, replicas: readonly ReplicaProcess[]): { readonly url: string } =>
  replicas.length > 0 ? dice.pick(replicas) : NOWHERE;
