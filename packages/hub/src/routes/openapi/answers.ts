import type { ErrorCode } from "@rootstock/protocol";
import { z } from "zod";
import type { Route } from "../route.ts";
import { isOtherBody, type ReplyShape, shapesOf } from "../shapes.ts";
import { codesByStatus } from "./codes.ts";

/** The envelope of errors (spec/02 1.2) with one of these codes. */
const errorSchema = (codes: readonly ErrorCode[]) =>
  z.object({
    error: z.object({
      code: z.enum(codes),
      message: z.string(),
      details: z.record(z.string(), z.unknown()).optional(),
      requestId: z.string().optional(),
    }),
  });

/** What everybody who has to wait hears: no envelope (spec/03 5.10). */
const maintenanceSchema = z.object({ error: z.literal("system_maintenance"), message: z.string() });

/** The bodies of errors with these codes. */
const errorShapes = (codes: readonly ErrorCode[]): readonly z.ZodType[] => {
  const enveloped = codes.filter((code) => code !== "system_maintenance");
  return [
    ...(enveloped.length > 0 ? [errorSchema(enveloped)] : []),
    ...(enveloped.length < codes.length ? [maintenanceSchema] : []),
  ];
};

/** One status that a route may answer. */
export interface DeclaredAnswer {
  readonly status: number;
  /** Of the errors with this status. */
  readonly codes: readonly ErrorCode[];
  readonly shapes: readonly ReplyShape[];
}

/** Everything that a route may answer, by status. */
export const answersOf = (route: Route): readonly DeclaredAnswer[] => {
  const errors = codesByStatus(route);
  const statuses = new Set([...Object.keys(route.replies ?? {}).map(Number), ...errors.keys()]);
  return [...statuses]
    .sort((a, b) => a - b)
    .map((status) => ({ status, codes: errors.get(status) ?? [], shapes: shapesOf(route.replies, status) }));
};

/** The JSON of an answer; undefined for one that has none. */
export const jsonShapeOf = ({ codes, shapes }: DeclaredAnswer): z.ZodType | undefined => {
  const json = shapes.filter((shape): shape is z.ZodType => !isOtherBody(shape));
  const all = [...json, ...errorShapes(codes)];
  const [first, ...others] = all;
  return others.length === 0 ? first : z.union(all);
};

/** The content types of an answer; undefined among them: there may be no body. */
export const contentTypesOf = (answer: DeclaredAnswer): readonly (string | undefined)[] => [
  ...(jsonShapeOf(answer) ? ["application/json"] : []),
  ...answer.shapes.filter(isOtherBody).map((shape) => shape.contentType),
];
