import { afterAll, beforeAll, expect } from "@jest/globals";
import { api } from "@rootstock/testkit";
import { makeWorld, rowCounts, type World } from "./world.ts";

/** One world for all tests of a file, which is to be at its end as it was at first. To be made at the file's top: it adds the hooks. */
export class KeptWorld {
  #world: World | undefined;
  #before: Readonly<Record<string, number>> = {};

  constructor() {
    beforeAll(async () => {
      this.#world = await makeWorld();
      this.#before = await rowCounts(this.now.scene);
    });
    afterAll(() => this.#world?.scene.end());
  }

  get now(): World {
    if (!this.#world) throw new Error("the world is not made yet");
    return this.#world;
  }

  /** Nothing was written, and the replica serves. */
  async unharmed(): Promise<void> {
    const { scene, replica, agentId } = this.now;
    expect(await rowCounts(scene)).toEqual(this.#before);
    expect((await api(replica, "GET", "/readyz")).status).toBe(200);
    expect((await api(replica, "GET", `/api/v1/agents/${agentId}`)).get("phase")).toBe("running");
  }
}
