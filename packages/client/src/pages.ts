import type { Http, QueryValue } from "./http.ts";

/** A list to be read: where, under which name its rows stand in an answer, and what it is narrowed to. */
export interface ListRequest<Key extends string> {
  readonly path: string;
  readonly as: Key;
  readonly query?: Readonly<Record<string, QueryValue>>;
}

type PageOf<Row, Key extends string> = { readonly nextCursor?: string } & {
  readonly [K in Key]: readonly Row[] | null;
};

/** Every row of a list, page after page: the next page is asked for when the one before has been read. */
export async function* allOf<Row, Key extends string = string>(
  http: Http,
  { path, as, query }: ListRequest<Key>,
): AsyncGenerator<Row> {
  let cursor: string | undefined;
  do {
    const page = await http.json<PageOf<Row, Key>>("GET", path, { query: { ...query, cursor } });
    yield* page[as] ?? [];
    cursor = page.nextCursor;
  } while (cursor);
}
