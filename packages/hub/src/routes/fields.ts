import { withoutCredentials } from "@rootstock/protocol";
import { z } from "zod";

/** Pieces of request bodies. Absent, null and empty mean the same to the Go clients. */

/** A text, or nothing. */
export const text = (max: number) =>
  z
    .string()
    .max(max)
    .nullish()
    .transform((s) => s || undefined);

/** A switch, or nothing. */
export const flag = z
  .boolean()
  .nullish()
  .transform((b) => b ?? undefined);

const MAX_LABELS = 128;

/** Labels or annotations, or nothing. */
export const labels = z
  .record(z.string().min(1).max(256), z.string().max(4096))
  .refine((m) => Object.keys(m).length <= MAX_LABELS, `at most ${MAX_LABELS} entries`)
  .nullish()
  .transform((m) => m ?? undefined);

/** Labels in which clients keep where a project's code comes from (spec/02 3.2). */
const URL_LABELS = ["scion.dev/clone-url", "scion.dev/source-url"];

/** The labels of a project, or nothing. Whoever may read it is shown them: a token in a URL does not get in. */
export const projectLabels = labels.transform(
  (m) =>
    m &&
    Object.fromEntries(
      Object.entries(m).map(([key, value]) => [key, URL_LABELS.includes(key) ? withoutCredentials(value) : value]),
    ),
);

export const visibility = z
  .enum(["private", "team", "public"])
  .or(z.literal(""))
  .nullish()
  .transform((v) => v || undefined);

/** Longest name of anything, in characters. */
export const MAX_NAME = 200;

/** Longest description of anything, in characters. */
export const MAX_TEXT = 4_096;

/** One of some words, or nothing. */
export const choice = <const T extends readonly [string, ...string[]]>(...values: T) =>
  z
    .enum(values)
    .or(z.literal(""))
    .nullish()
    .transform((v) => (v === "" ? undefined : (v ?? undefined)));
