import { z } from "zod";
import { anyone } from "../access.ts";
import { PUBLIC } from "../does.ts";
import { type Route, route } from "../route.ts";
import { openApiDocument } from "./document.ts";

/** How long clients may go without asking again, in seconds: it changes with a release. */
const FRESH_SECONDS = 300;

const documentReply = z.looseObject({ openapi: z.literal("3.1.0"), paths: z.record(z.string(), z.unknown()) });

/**
 * The document of the API (OpenAPI 3.1). For anybody: it tells what everybody can read in the source, and tools fetch it
 * before anyone has signed in. Made when it is first asked for.
 */
export const openApiRoutes = (routes: readonly Route[], version: string): Route[] => {
  let bytes: Buffer<ArrayBuffer> | undefined;
  const self: Route = route({
    method: "GET",
    path: "/api/v1/openapi.json",
    access: anyone,
    does: PUBLIC,
    summary: "This document",
    replies: { 200: documentReply },
    handler: () => {
      // As bytes: a megabyte of text would be there once more for each client that reads it slowly.
      bytes ??= Buffer.from(JSON.stringify(openApiDocument([...routes, self], version)));
      return new Response(bytes, {
        headers: { "content-type": "application/json", "cache-control": `public, max-age=${FRESH_SECONDS}` },
      });
    },
  });
  return [self];
};
