import type { Result, Router } from "hono/router";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { SmartRouter } from "hono/router/smart-router";
import { TrieRouter } from "hono/router/trie-router";

/** So many paths are remembered, each no longer than so many characters: anybody may make them up. */
const MOST_REMEMBERED = 4_096;
const LONGEST_REMEMBERED = 160;

/**
 * Hono's own choice of routers, with the routes of the paths that were asked for lately remembered: those who write to an
 * agent write to it again, and to find the route of a path among all costs more than to answer many a call.
 */
export class RememberingRouter<T> implements Router<T> {
  readonly name = "RememberingRouter";
  readonly #router: Router<T> = new SmartRouter<T>({ routers: [new RegExpRouter<T>(), new TrieRouter<T>()] });
  readonly #found = new Map<string, Map<string, Result<T>>>();

  add(method: string, path: string, handler: T): void {
    this.#router.add(method, path, handler);
  }

  match(method: string, path: string): Result<T> {
    const known = this.#found.get(method);
    const found = known?.get(path);
    if (found !== undefined) return found;
    if (path.length > LONGEST_REMEMBERED) return this.#router.match(method, path);
    const own = copyOf(path);
    const result = this.#router.match(method, own);
    // What has no route is asked for by nobody twice.
    if (result[0].length > 0) this.#remember(method, own, result);
    return result;
  }

  #remember(method: string, path: string, result: Result<T>): void {
    const known = this.#found.get(method) ?? new Map<string, Result<T>>();
    if (known.size >= MOST_REMEMBERED) known.clear();
    this.#found.set(method, known.set(path, result));
  }
}

/** A part of a text keeps the whole of it: with each path its URL would be remembered, of which anybody makes 32 KiB. */
const copyOf = (path: string): string => Buffer.from(path, "utf16le").toString("utf16le");
