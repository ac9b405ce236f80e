import type { z } from "zod";

/** What routes say of their answers, beside their handlers: what the API's document is made of, and tests check. */

/** A body that is not JSON, or none. */
export interface OtherBody {
  /** Undefined: no body. */
  readonly contentType: string | undefined;
}

export const NO_BODY: OtherBody = { contentType: undefined };
export const PLAIN_TEXT: OtherBody = { contentType: "text/plain" };
export const HTML: OtherBody = { contentType: "text/html" };
export const EVENT_STREAM: OtherBody = { contentType: "text/event-stream" };

/** The body of an answer: JSON as the schema has it, or something else. */
export type ReplyShape = z.ZodType | OtherBody;

/**
 * The answers of a route by status, except errors in the envelope: those follow from the declaration and `refuses`.
 * Several shapes for one status differ in content type.
 */
export type Replies = Readonly<Record<number, ReplyShape | readonly ReplyShape[]>>;

/** Whether the shape is something else than JSON. */
export const isOtherBody = (shape: ReplyShape): shape is OtherBody => "contentType" in shape;

/** The shapes of one status. */
export const shapesOf = (replies: Replies | undefined, status: number): readonly ReplyShape[] => {
  const found = replies?.[status];
  if (found === undefined) return [];
  return Array.isArray(found) ? found : [found as ReplyShape];
};
