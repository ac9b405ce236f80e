/** JSON that came in, to be looked into by path. */
export class Found {
  readonly #value: unknown;

  constructor(value: unknown) {
    this.#value = value;
  }

  /** What is at a path such as `agent.id` or `results.0.status`; undefined when nothing is. */
  get(path: string): unknown {
    let value = this.#value;
    for (const key of path.split("."))
      value = typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
    return value;
  }

  /** The text at a path. Throws with everything when there is none. */
  textAt(path: string): string {
    const value = this.get(path);
    if (typeof value !== "string") throw new Error(`no text at ${path} of ${JSON.stringify(this.#value)}`);
    return value;
  }

  /** The list at a path; empty when there is none. */
  listAt(path: string): readonly unknown[] {
    const value = this.get(path);
    return Array.isArray(value) ? value : [];
  }
}
