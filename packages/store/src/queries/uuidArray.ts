import type { Uuid } from "@rootstock/protocol";

/**
 * The text of a `uuid[]`, for lists of thousands: the driver would look at each character of each id for something to
 * escape. To be cast.
 */
export const uuidArray = (ids: readonly Uuid[]): string => `{${ids.join(",")}}`;
