import { z } from "zod";

/** Pieces of the schemas of what the hub answers. Types of the wire are inferred from them, and so is the API's document. */

/** RFC 3339, UTC. */
export const timestamp = z.iso.datetime();

/** An id of the hub's own. */
export const id = z.guid();

/** Labels or annotations. */
export const labelsJson = z.record(z.string(), z.string());

/** Whatever a client or a runtime broker has said. */
export const anyObject = z.record(z.string(), z.unknown());

/** A count, or an amount of something. */
export const count = z.int().min(0);

/** What the caller may do with a resource, or with a list. */
export const capabilitiesJson = z.object({ actions: z.array(z.string()).readonly() }).meta({ id: "Capabilities" });

/** The fields that lists of pages have beside their rows. */
export const pageFields = { nextCursor: z.string().optional(), totalCount: count };

/** The answer of what has nothing to say but that it is done. */
export const statusReply = (...status: readonly [string, ...string[]]) => z.object({ status: z.enum(status) });
