import type { TestDatabase } from "@rootstock/testkit";
import pg from "pg";

/** A node of a plan as `explain (analyze, buffers, format json)` tells it. */
export interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Actual Rows"?: number;
  readonly "Actual Loops"?: number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Index Recheck"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly "Shared Hit Blocks"?: number;
  readonly "Shared Read Blocks"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** A statement as the store sent it, with the plan by which it was run. */
export interface CapturedPlan {
  readonly text: string;
  readonly plan: PlanNode;
}

/** The node and all below it. */
export const nodesOf = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];

/** How many rows a node has looked at, those it threw away included. */
export const rowsSeen = (node: PlanNode): number =>
  ((node["Actual Rows"] ?? 0) +
    (node["Rows Removed by Filter"] ?? 0) +
    (node["Rows Removed by Index Recheck"] ?? 0) +
    (node["Rows Removed by Join Filter"] ?? 0)) *
  (node["Actual Loops"] ?? 1);

/** How many pages of tables and indexes the whole statement has read. */
export const pagesRead = ({ plan }: CapturedPlan): number =>
  (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0);

/**
 * The plan of every statement that is run over connections opened from here on, statements of triggers included. The
 * server tells them as notices (auto_explain), so these are the plans of the very sessions of the hub: prepared
 * statements, session settings and all.
 */
export class PlanCapture {
  readonly plans: CapturedPlan[] = [];
  readonly #end: () => void;

  private constructor(end: () => void) {
    this.#end = end;
  }

  static async begin(database: TestDatabase): Promise<PlanCapture> {
    const settings = {
      session_preload_libraries: "auto_explain",
      "auto_explain.log_min_duration": "0",
      "auto_explain.log_analyze": "on",
      "auto_explain.log_buffers": "on",
      "auto_explain.log_timing": "off",
      "auto_explain.log_nested_statements": "on",
      // However small the tables of a test: whoever may start parallel workers does.
      parallel_setup_cost: "0",
      parallel_tuple_cost: "0",
      min_parallel_table_scan_size: "0",
      min_parallel_index_scan_size: "0",
      "auto_explain.log_parameter_max_length": "0",
      "auto_explain.log_format": "json",
      "auto_explain.log_level": "notice",
    };
    const name = new URL(database.url).pathname.slice(1);
    for (const [setting, value] of Object.entries(settings))
      await database.query(`alter database ${name} set ${setting} = '${value}'`);
    const connect = pg.Client.prototype.connect;
    const capture = new PlanCapture(() => {
      pg.Client.prototype.connect = connect;
    });
    pg.Client.prototype.connect = new Proxy(connect, {
      apply: (target, client: pg.Client, given: unknown[]) => {
        client.on("notice", (notice) => capture.#take(notice.message ?? ""));
        return Reflect.apply(target, client, given);
      },
    });
    return capture;
  }

  /** Captures no connections opened from now on. */
  end(): void {
    this.#end();
  }

  #take(message: string): void {
    const at = message.indexOf("{");
    if (!message.startsWith("duration:") || at < 0) return;
    const told: { "Query Text": string; Plan: PlanNode } = JSON.parse(message.slice(at));
    this.plans.push({ text: told["Query Text"].replace(/\s+/g, " ").trim(), plan: told.Plan });
  }
}
