import { CHECKOUT, type Code, type CodeCopy, copyCommit, nextRelease, releaseBefore } from "./codeCopy.ts";

/** What runs beside this code: nothing, the release before it, or the one after it. */
export type Beside = (typeof BESIDE)[number];
export const BESIDE = ["none", "before", "next"] as const;

/** Versions of the code that rounds run side by side. Copies are made when they are first needed. */
export class Versions {
  #copies = new Map<Beside, Promise<CodeCopy>>();
  readonly #commit: string | undefined;

  /** `commit`: what "the release before" is; see {@link releaseBefore}. */
  constructor(commit?: string) {
    this.#commit = commit;
  }

  /**
   * The versions, the one whose schema the database has first. Without git there is none before this
   * one: the next one, to which this code is the older, stands in for it.
   */
  async beside(beside: Beside): Promise<readonly Code[]> {
    if (beside === "none") return [CHECKOUT];
    const commit = beside === "before" ? (this.#commit ?? (await releaseBefore())) : undefined;
    if (commit !== undefined) return [CHECKOUT, await this.#copy("before", () => copyCommit(commit))];
    return [await this.#copy("next", nextRelease), CHECKOUT];
  }

  async remove(): Promise<void> {
    for (const copy of this.#copies.values()) await (await copy).remove();
  }

  #copy(beside: Beside, make: () => Promise<CodeCopy>): Promise<CodeCopy> {
    const made = this.#copies.get(beside) ?? make();
    this.#copies.set(beside, made);
    return made;
  }
}
