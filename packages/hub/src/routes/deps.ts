import type { Random } from "@rootstock/service";
import type { Db } from "@rootstock/store";

/** What the routes of stored resources work with. */
export interface ResourceDeps {
  readonly db: Db;
  readonly random: Random;
  /** Called after a commit that touched what the change feed shows. */
  readonly changed: () => void;
}
