import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, findAgent } from "@rootstock/store";
import { z } from "zod";
import type { AgentTokens, TransportToken } from "../auth/index.ts";
import { count, timestamp } from "../wire/index.ts";
import { agents } from "./access.ts";
import { agentOf } from "./lookup.ts";
import { json, type Route, route } from "./route.ts";

export interface AgentTokenDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly tokens: Pick<AgentTokens, "issue">;
  /** What lets agents through what stands before the hub; undefined where nothing does, or none can be had. */
  readonly transportToken: () => Promise<TransportToken | undefined>;
}

const refreshReply = z.object({
  token: z.string(),
  expires_at: timestamp,
  tokens: z.array(
    z.object({
      layer: z.enum(["app", "transport"]),
      type: z.enum(["scion_access", "google_oidc"]),
      value: z.string(),
      expiresIn: count,
      audience: z.string().optional(),
    }),
  ),
});

/** Tokens that an agent gets for itself (spec/02 2.11). Its tool wants exactly 200 and reads `token` and `expires_at`. */
export const agentTokenRoutes = (deps: AgentTokenDeps): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/agents/:agentId/token/refresh",
    access: agents,
    does: { action: "refresh", on: "agent" },
    summary: "An agent gets its next token",
    replies: { 200: refreshReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const { id } = await agentOf(deps.db, call);
      const agent = await findAgent(deps.db, id);
      if (call.principal.kind !== "agent" || !agent || agent.deleted_at !== null)
        throw new HubError("unauthorized", "failed to refresh token: the agent is deleted");
      const { scopes, ancestry, projectId, runId, tokenVersion = agent.token_version } = call.principal;
      const { token, expiresAt } = await deps.tokens.issue({
        agentId: agent.id,
        projectId,
        scopes,
        ancestry,
        tokenVersion,
        runId,
      });
      const transport = await deps.transportToken();
      const secondsTo = (at: Date) => Math.max(0, Math.floor((at.getTime() - deps.clock.now()) / 1000));
      return json(200, {
        token,
        expires_at: wholeSeconds(expiresAt),
        tokens: [
          { layer: "app", type: "scion_access", value: token, expiresIn: secondsTo(expiresAt) },
          ...(transport
            ? [
                {
                  layer: "transport",
                  type: "google_oidc",
                  value: transport.value,
                  expiresIn: secondsTo(transport.expiresAt),
                  audience: transport.audience,
                },
              ]
            : []),
        ],
      });
    },
  }),
];

/** The original sends no fractions here, and older tools parse what it sends. */
const wholeSeconds = (at: Date): string => at.toISOString().replace(/\.\d+Z$/, "Z");
