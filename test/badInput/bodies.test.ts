import { expect, test } from "@jest/globals";
import type { Route } from "@rootstock/hub";
import { api, fieldsOf, sampleOf, withValue, wrongValues } from "@rootstock/testkit";
import fc from "fast-check";
import { KeptWorld } from "./keptWorld.ts";
import { callAllowed, forEach, name, nothing, pathOf, problemsOf } from "./world.ts";

/**
 * Whatever body is sent to whichever declared route: a refusal in the envelope that names what is wrong, and nothing
 * written. Bodies are wrong in one place each and otherwise right, and ids are those of nothing, so that what is right
 * changes nothing either.
 */

const world = new KeptWorld();

/** Where whatever comes is read as nothing: the agents' tool sends other shapes there (spec/02 2.11). */
const isTolerated = (route: Route, path: readonly string[]): boolean =>
  route.path.endsWith("/outbound-message") && path[0] === "metadata";

const withBody = (): readonly (Route & { readonly body: NonNullable<Route["body"]> })[] =>
  world.now.routes.flatMap((r) => (r.body ? [{ ...r, body: r.body }] : []));

test("bodies that are no JSON in UTF-8", async () => {
  const bodies = [
    "{",
    '{"a":}',
    "nonsense",
    '{"a":1}}',
    "\u0000",
    new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]),
  ];
  const found = await forEach(withBody(), async (route) => {
    const path = nothing(route);
    const replies = await Promise.all(bodies.map((raw) => callAllowed(world.now, route, path, { raw })));
    return replies.flatMap((r) =>
      problemsOf(name(route, path), r, () => r.status === 400 && r.get("error.code") === "invalid_request"),
    );
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("bodies that are JSON of another kind than an object", async () => {
  const found = await forEach(withBody(), async (route) => {
    const path = nothing(route);
    const replies = await Promise.all(
      ["[]", "7", '"text"', "null", "true"].map((raw) => callAllowed(world.now, route, path, { raw })),
    );
    return replies.flatMap((r) => problemsOf(name(route, path), r, () => r.get("error.code") === "validation_error"));
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("each field of each body with values of other types: the refusal names it", async () => {
  const found = await forEach(withBody(), async (route) => {
    const path = nothing(route);
    const sample = sampleOf(route.body);
    const problems: string[] = [];
    for (const field of fieldsOf(route.body)) {
      if (field.path.length === 0 || isTolerated(route, field.path)) continue;
      for (const value of wrongValues(field)) {
        const reply = await callAllowed(world.now, route, path, { body: withValue(sample, field.path, value) });
        const at = `${name(route, path)} ${field.path.join(".")}=${JSON.stringify(value)}`;
        problems.push(
          ...problemsOf(
            at,
            reply,
            () =>
              reply.get("error.code") === "validation_error" &&
              String(reply.get("error.details.field")).startsWith(field.path[0] ?? ""),
          ),
        );
      }
    }
    return problems;
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("each text of each body: too long, with NUL, with half a surrogate pair", async () => {
  const found = await forEach(withBody(), async (route) => {
    const path = nothing(route);
    const sample = sampleOf(route.body);
    const problems: string[] = [];
    for (const field of fieldsOf(route.body)) {
      if (!field.types.has("string")) continue;
      const tooLong = field.maxLength === undefined ? "x".repeat(200_000) : "x".repeat(field.maxLength + 1);
      for (const value of [tooLong, "a\u0000b", "a\ud800b", "\udc00"]) {
        const reply = await callAllowed(world.now, route, path, { body: withValue(sample, field.path, value) });
        const limited = value !== tooLong || (field.maxLength !== undefined && !isTolerated(route, field.path));
        const at = `${name(route, path)} ${field.path.join(".")}=${JSON.stringify(value.slice(0, 9))}`;
        problems.push(
          ...problemsOf(at, reply, () =>
            limited ? reply.get("error.code") === "validation_error" : reply.status >= 400 && reply.status !== 502,
          ),
        );
      }
    }
    return problems;
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("each number of each body: negative, huge, endless, with a fraction", async () => {
  const numbers = [
    "-1",
    "-9007199254740993",
    "9007199254740993",
    "2147483648",
    "1e308",
    "1e400",
    "-1e400",
    "0.5",
    "-0",
  ];
  const found = await forEach(withBody(), async (route) => {
    const path = nothing(route);
    const sample = sampleOf(route.body);
    const problems: string[] = [];
    for (const field of fieldsOf(route.body).filter((f) => f.types.has("number")))
      for (const number of numbers) {
        const raw = JSON.stringify(withValue(sample, field.path, "NUMBER")).replace('"NUMBER"', number);
        const reply = await callAllowed(world.now, route, path, { raw });
        problems.push(...problemsOf(`${name(route, path)} ${raw}`, reply, () => reply.status >= 400));
      }
    return problems;
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("bodies nested deeper than any stack", async () => {
  const deep = (open: string, close: string) => open.repeat(150_000) + close.repeat(150_000);
  const found = await forEach(withBody(), async (route) => {
    const path = nothing(route);
    const raws = [deep("[", "]"), `{"config":${deep("[", "]")}}`, `${'{"name":'.repeat(50_000)}1${"}".repeat(50_000)}`];
    const replies = await Promise.all(raws.map((raw) => callAllowed(world.now, route, path, { raw })));
    return replies.flatMap((r) => problemsOf(name(route, path), r, () => r.status === 400));
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("bodies above the limit: 413, said before and while they are read", async () => {
  const changing = world.now.routes.filter((r) => r.method !== "GET");
  const large = new Uint8Array(1_048_577).fill(0x20);
  const found = await forEach(changing, async (route) => {
    const limit = route.maxBodyBytes ?? 1_048_576;
    const raw = limit === 1_048_576 ? large : new Uint8Array(limit + 1);
    const path = nothing(route);
    const reply = await callAllowed(world.now, route, path, { raw });
    return problemsOf(name(route, path), reply, () => reply.status === 413);
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("whatever else there is: random bodies, paths, queries and headers", async () => {
  const routes = world.now.routes.filter((r) => !r.path.includes("stop-all"));
  const segment = fc.string({ unit: "binary", maxLength: 40 }).map((s) => encodeURIComponent(s.toWellFormed()) || "x");
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 4 }),
    fc.string({ unit: "binary" }),
    fc.double(),
    fc.maxSafeInteger(),
  );
  const request = fc.record({
    route: fc.constantFrom(...routes),
    segment,
    query: fc.dictionary(fc.string({ maxLength: 8 }), fc.string({ unit: "binary", maxLength: 30 }), { maxKeys: 3 }),
    body: fc.dictionary(fc.string({ maxLength: 8 }), value, { maxKeys: 4 }),
    known: fc.array(value, { maxLength: 6 }),
    accept: fc.stringMatching(/^[ -~]{0,40}$/),
  });
  await fc.assert(
    fc.asyncProperty(request, async ({ route, segment: part, query, body, known, accept }) => {
      const names = route.body ? fieldsOf(route.body).map((f) => f.path[0] ?? "a") : [];
      const named = Object.fromEntries(known.map((v, i) => [names[(i * 7) % Math.max(1, names.length)] ?? "a", v]));
      const wellFormed = Object.fromEntries(
        Object.entries(query).map(([k, v]) => [k.toWellFormed(), v.toWellFormed()]),
      );
      const path = `${pathOf(route, {}, part)}?${new URLSearchParams(wellFormed)}`;
      const sent = { body: { ...body, ...named }, headers: { accept } };
      const reply = await callAllowed(world.now, route, path, sent);
      expect(problemsOf(name(route, path), reply)).toEqual([]);
    }),
    { seed: 20_260_601, numRuns: 1_500, endOnFailure: true },
  );
  expect((await api(world.now.replica, "GET", "/readyz")).status).toBe(200);
});
