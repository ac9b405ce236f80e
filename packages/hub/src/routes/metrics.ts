import type { Metrics } from "../metrics/index.ts";
import { adminsAndScrapers } from "./access.ts";
import { type Route, route } from "./route.ts";
import { PLAIN_TEXT } from "./shapes.ts";

/** What the replica counts, as Prometheus reads it. */
export const metricsRoutes = (metrics: Pick<Metrics, "text" | "registry">): Route[] => [
  route({
    method: "GET",
    path: "/metrics",
    access: adminsAndScrapers,
    does: { action: "read", on: "metrics" },
    quiet: true,
    summary: "What this replica counts, as Prometheus reads it",
    replies: { 200: PLAIN_TEXT },
    handler: async () =>
      new Response(await metrics.text(), { headers: { "content-type": metrics.registry.contentType } }),
  }),
];
