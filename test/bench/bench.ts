import type { BenchServer } from "./cluster.ts";
import type { Figure } from "./report.ts";

/** What a benchmark is run with. */
export interface BenchContext {
  readonly server: BenchServer;
  /** Options of Node for the replicas, for profiles. */
  readonly nodeOptions: string | undefined;
  /** Shortens everything, to see that it works; its figures mean little. */
  readonly quick: boolean;
  /** How long the soak lasts, in minutes. */
  readonly minutes: number;
  /** Tells how far it is. */
  readonly say: (text: string) => void;
}

/** A benchmark: figures beside floors measured in the same run. */
export type Bench = (context: BenchContext) => Promise<readonly Figure[]>;
