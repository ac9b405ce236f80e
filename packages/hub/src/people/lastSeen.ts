import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type Db, noteUserSeen } from "@rootstock/store";
import { Fresh } from "./fresh.ts";

/** Kept to the hour: a write at each call would cost more than the call. */
const NOTED_FOR_MS = 3_600_000;

/** Keeps when people were here last (spec/03 section 2). */
export class LastSeen {
  readonly #noted: Fresh<Uuid, void>;

  constructor({ clock, log }: Pick<Base, "clock" | "log">, db: Db) {
    // What fails is left to another replica, or the next hour: a database that is away is not to be asked with every call.
    this.#noted = new Fresh(clock, NOTED_FOR_MS, async (id) => {
      await noteUserSeen(db, id, NOTED_FOR_MS / 1000).catch((err: unknown) => log.warn({ err }, "last call not noted"));
    });
  }

  /** Somebody has called. Nobody waits for that to be written. */
  note(userId: Uuid): void {
    void this.#noted.get(userId);
  }
}
