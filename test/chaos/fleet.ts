import { type ReplicaProcess, startReplicaProcess } from "@rootstock/testkit";
import type { Dice } from "./dice.ts";
import { PostgresProxy } from "./postgresProxy.ts";

/** A place in the fleet: the process in it changes, its name and its way to the database stay. */
interface Slot {
  readonly name: string;
  readonly proxy: PostgresProxy;
  replica: ReplicaProcess | undefined;
  busy: boolean;
  readonly logs: string[];
}

/** The replicas of a round, each behind a proxy of its own. */
export class Fleet {
  readonly #slots: Slot[] = [];

  /** Starts `count` replicas on this database. */
  static async start(databaseUrl: string, count: number): Promise<Fleet> {
    const fleet = new Fleet();
    for (let i = 0; i < count; i += 1)
      fleet.#slots.push({
        name: `r${i}`,
        proxy: await PostgresProxy.start(databaseUrl),
        replica: undefined,
        busy: false,
        logs: [],
      });
    await Promise.all(fleet.#slots.map((slot) => fleet.#launch(slot)));
    return fleet;
  }

  get size(): number {
    return this.#slots.length;
  }

  name(index: number): string {
    return this.#slot(index).name;
  }

  proxy(index: number): PostgresProxy {
    return this.#slot(index).proxy;
  }

  /** The name of the replica with this URL, now or before. */
  nameOf(url: string): string {
    return this.#names.get(url) ?? url;
  }
  readonly #names = new Map<string, string>();

  /** A replica that runs, as a load balancer sees it: it knows of the dead, not of the paused. */
  any(dice: Dice): { readonly url: string } {
    const up = this.#slots.flatMap((s) => s.replica ?? []);
    return up.length > 0 ? dice.pick(up) : { url: "http://127.0.0.1:1" };
  }

  /** Sends a signal; false when there is nobody, or another fault has it in hand. */
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

  /** Fills an empty place. A start while the database is away fails and is tried again. */
  async fill(index: number): Promise<void> {
    const slot = this.#slot(index);
    while (!slot.replica) await this.#launch(slot).catch(() => {});
  }

  /** Everything that the replicas have logged, per name. */
  logs(): ReadonlyMap<string, string> {
    return new Map(this.#slots.map((s) => [s.name, [...s.logs, s.replica?.output() ?? ""].join("\n")]));
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#slots.map(async (slot) => {
        slot.replica?.signal("SIGKILL");
        await slot.replica?.exited;
        await slot.proxy.stop();
      }),
    );
  }

  async #launch(slot: Slot): Promise<void> {
    slot.replica = await startReplicaProcess({
      databaseUrl: slot.proxy.url,
      name: slot.name,
      env: { ROOTSTOCK_POOL_SIZE: "6", ROOTSTOCK_MIGRATE: "0" },
    });
    this.#names.set(slot.replica.url, slot.name);
  }

  #slot(index: number): Slot {
    const slot = this.#slots[index];
    if (!slot) throw new Error(`no replica ${index}`);
    return slot;
  }
}
