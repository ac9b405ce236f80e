import { api } from "@rootstock/testkit";
import { makeWorld } from "../matrix/world.ts";
import { fuzzDocument, type Json } from "./document.ts";
import { identityOf, type Kind } from "./identities.ts";
import { connectMachines } from "./machines.ts";
import { startProviders } from "./providers.ts";
import { startProxy } from "./proxy.ts";
import { Reach } from "./reach.ts";
import { fuzz } from "./schemathesis.ts";
import { Tally } from "./tally.ts";
import { makeThings } from "./things.ts";
import { WORDS } from "./words.ts";

export interface SliceOptions {
  readonly kind: Kind;
  readonly program: string;
  readonly folder: string;
  readonly seed: number;
  readonly examples: number;
}

export interface Slice {
  readonly tally: Tally;
  /** Whether the fuzzer has found nothing either. */
  readonly clean: boolean;
  readonly output: string;
}

const REPLICAS = 2;
/** After so many answers what was halted runs again. */
const TENDED = 20;
/** Fuzzing asks for more than anybody may, and 429 tells nothing of what stands behind it. */
const ENV = { ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_RATE_LIMITS: "off" };

/** One kind of principal in a world of its own: what it destroys is gone for nobody else. */
export const runSlice = async ({ kind, program, folder, seed, examples }: SliceOptions): Promise<Slice> => {
  const providers = await startProviders();
  const world = await makeWorld({ env: providers.env, connected: false });
  world.scene.onEnd(() => providers.stop());
  try {
    const env = { ...ENV, ...providers.env };
    const replicas = await Promise.all(Array.from({ length: REPLICAS }, () => world.scene.replica(env)));
    const machines = await connectMachines(world, replicas);
    const identity = await identityOf(world, kind, machines);
    const things = await makeThings(world, identity, machines);
    const document = (await api(world.replica, "GET", "/api/v1/openapi.json")).json as Json;
    const tally = new Tally(new Reach(document));
    const proxy = await startProxy(replicas, identity, tally, async (target, status, body) => {
      machines.heard(target, status, body);
      if (tally.requests % TENDED === 0) await things.tend();
    });
    try {
      const there = { ...WORDS, ...things.there, providerToken: providers.tokens };
      const found = await fuzz({
        program,
        folder,
        document: fuzzDocument(document, { ...things, there }, seed),
        url: proxy.url,
        seed,
        examples,
      });
      return { tally, ...found };
    } finally {
      await proxy.stop();
    }
  } finally {
    await world.scene.end();
  }
};
