import { type Json, METHODS } from "./document.ts";

/** How deep requests got: which operations of the document answered what. */
export class Reach {
  readonly #operations: readonly { readonly name: string; readonly method: string; readonly path: RegExp }[];
  /** Statuses and how often, by operation. */
  readonly answers = new Map<string, Map<number, number>>();

  constructor(document: Json) {
    const found = Object.entries(document.paths as Json).flatMap(([path, item]) =>
      Object.keys(item as Json)
        .filter((method) => METHODS.some((m) => m === method))
        .map((method) => ({
          name: `${method.toUpperCase()} ${path}`,
          method: method.toUpperCase(),
          path: regex(path),
        })),
    );
    // A path without parameters is meant before one of which a parameter happens to say the same.
    this.#operations = found.sort((a, b) => parameters(a.name) - parameters(b.name));
    for (const { name } of found) this.answers.set(name, new Map());
  }

  /** Of a request that no operation is, nothing. */
  note(method: string, target: string, status: number): void {
    const path = target.split("?", 1)[0] ?? "";
    const operation = this.#operations.find((o) => o.method === method && o.path.test(path));
    const counts = operation && this.answers.get(operation.name);
    counts?.set(status, (counts.get(status) ?? 0) + 1);
  }
}

const regex = (path: string): RegExp => {
  const quoted = path.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  return new RegExp(`^${quoted.replace("{rest}", ".+").replace(/\{\w+\}/g, "[^/]+")}$`);
};

const parameters = (name: string): number => name.split("{").length;
