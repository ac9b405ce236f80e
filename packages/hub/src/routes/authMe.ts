import { HubError } from "@rootstock/protocol";
import { z } from "zod";
import { id } from "../wire/index.ts";
import { usersAndAgents } from "./access.ts";
import { json, type Route, route } from "./route.ts";

const meReply = z.object({ id, email: z.string(), displayName: z.string(), role: z.string() }).meta({ id: "Me" });

/** Who the credential speaks for (spec/03 3.1). */
export const authMeRoutes = (): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/auth/me",
    access: usersAndAgents,
    does: { action: "read", on: "self" },
    accessTokens: true,
    duringMaintenance: true,
    summary: "Who the credential speaks for",
    replies: { 200: meReply },
    handler: ({ principal }) => {
      switch (principal.kind) {
        case "user": {
          const { id, email, displayName, role } = principal;
          return json(200, { id, email, displayName, role });
        }
        case "agent":
          return json(200, { id: principal.id, email: "", displayName: `agent:${principal.id}`, role: "agent" });
        default:
          throw new HubError("unauthorized", "only users and agents have an identity here");
      }
    },
  }),
];
