const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

/** Whether the whole text is an id. */
export const isUuid = (text: string): boolean => text.match(UUID)?.[0] === text;

/** What the recording calls something, and what our hub calls it. */
export class Ids {
  readonly #ours = new Map<string, string>();

  /** Notes the first meeting of two names. False when they are known under others. */
  learn(recorded: string, ours: string): boolean {
    const known = this.#ours.get(recorded);
    if (known === undefined) this.#ours.set(recorded, ours);
    return known === undefined || known === ours;
  }

  /** What our hub calls it; as it was where it has not shown up yet. */
  of(recorded: string): string {
    return this.#ours.get(recorded) ?? recorded;
  }

  /** A recorded text or body with our hub's names in it. */
  translate<T>(recorded: T): T {
    return this.#translate(recorded) as T;
  }

  #translate(value: unknown): unknown {
    if (typeof value === "string") return this.#ours.get(value) ?? value.replace(UUID, (id) => this.of(id));
    if (Array.isArray(value)) return value.map((v) => this.#translate(v));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [this.of(key), this.#translate(v)]));
  }
}
