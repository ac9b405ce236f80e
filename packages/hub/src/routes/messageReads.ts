import { HubError, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import {
  countAllMessages,
  countMessages,
  type Db,
  listMessages,
  type MessageFilter,
  type MessageRow,
  markAllMessagesRead,
  markMessageRead,
  messageById,
  messagePosition,
  type Page,
} from "@rootstock/store";
import { z } from "zod";
import type { Principal } from "../auth/index.ts";
import { messageJson, messageReply, pageFields, some, statusReply } from "../wire/index.ts";
import { users } from "./access.ts";
import type { ResourceDeps } from "./deps.ts";
import { NOTHING } from "./does.ts";
import { readLongList, totalFields, totalJson, totalQuery } from "./longLists.ts";
import { agentOf, optionalUuid } from "./lookup.ts";
import { pageLimit, pageQuery } from "./pages.ts";
import { type Call, json, type Reply, type Route, route } from "./route.ts";

const SIZES = { usual: 50, max: 200, first: 50 };

const listQuery = z.object({
  ...pageQuery,
  ...totalQuery,
  unread: z.string().optional(),
  project: z.string().optional(),
  agent: z.string().optional(),
  type: z.string().optional(),
});

const listReply = z.object({
  ...pageFields,
  items: z.array(messageReply),
  ...totalFields,
  feedCursor: z.string(),
});

/** A person's messages (spec/02 4.3): those to them, and both sides of what they say with one agent. */
export const messageReadRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/messages",
    access: users,
    does: { action: "list", on: "self" },
    query: listQuery,
    summary: "Messages to the caller",
    replies: { 200: listReply },
    refuses: ["unprocessable"],
    handler: (call) =>
      list(deps, call, async (principal) => ({
        userId: userId({ principal }),
        view: "inbox",
        projectId: optionalUuid("project", call.query.project),
        agent: agentFilter(call.query.agent),
        type: call.query.type || undefined,
        onlyUnread: call.query.unread === "true",
      })),
  }),
  route({
    method: "POST",
    path: "/api/v1/messages/read-all",
    access: users,
    does: { action: "update", on: "self" },
    summary: "Marks all messages as read",
    replies: { 200: statusReply("ok") },
    handler: async (call) => {
      await markAllMessagesRead(deps.db, userId(call));
      deps.changed();
      return json(200, { status: "ok" });
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/messages/:messageId",
    access: users,
    does: { action: "read", on: "self" },
    summary: "One message to the caller",
    replies: { 200: messageReply },
    handler: async (call) => json(200, messageJson(await own(deps.db, call))),
  }),
  route({
    method: "POST",
    path: "/api/v1/messages/:messageId/read",
    access: users,
    does: { action: "update", on: "self" },
    summary: "Marks a message as read",
    replies: { 200: statusReply("ok") },
    handler: async (call) => {
      const message = await own(deps.db, call);
      await markMessageRead(deps.db, message.id);
      deps.changed();
      return json(200, { status: "ok" });
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/agents/:agentId/messages",
    access: users,
    does: { action: "read", on: "agent" },
    query: listQuery,
    summary: "What the caller and an agent have said to each other",
    replies: { 200: listReply },
    refuses: ["unprocessable"],
    handler: (call) => {
      const { params, does } = call;
      return list(deps, call, async (principal) => {
        const agent = await agentOf(deps.db, { principal, params, does });
        return { userId: userId({ principal }), view: "conversation", agent: { id: agent.id } };
      });
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/message-channels",
    access: users,
    does: NOTHING,
    summary: "Channels for messages: there are none",
    replies: { 200: z.object({ channels: z.array(z.string()) }) },
    handler: () => json(200, { channels: [] }),
  }),
];

const userId = (call: Pick<Call, "principal">): Uuid => {
  if (call.principal.kind !== "user") throw new HubError("forbidden", "only users have messages");
  return call.principal.id;
};

/** The CLI passes names where the API speaks of ids; both are understood. */
const agentFilter = (given: string | undefined): MessageFilter["agent"] => {
  if (!given) return undefined;
  const id = parseUuid(given);
  return id === undefined ? { name: given } : { id };
};

/** The message of the path, if it is the caller's. Another's is 403, as the original answers. */
const own = async (db: Db, call: Pick<Call, "principal" | "params">): Promise<MessageRow> => {
  const id = parseUuid(call.params.messageId ?? "");
  const message = id && (await messageById(db, id));
  if (!message) throw notFound("Message");
  if (message.recipient_id !== userId(call)) throw new HubError("forbidden", "this message is to somebody else");
  return message;
};

const list = async (
  { db, feedCursor, exactCounts }: ResourceDeps,
  call: Call<z.output<typeof listQuery>>,
  filterFor: (principal: Principal) => Promise<MessageFilter>,
): Promise<Reply> => {
  const messagesFor = async (principal: Principal) => {
    const filter = await filterFor(principal);
    return {
      list: "messages",
      filters: { ...filter },
      given: call.query,
      sizes: SIZES,
      rows: (p: Page) => listMessages(db, filter, p),
      position: (id: Uuid) => messagePosition(db, filter.userId, id),
      usual: () => countMessages(db, filter, pageLimit(call.query, SIZES)),
      all: (tx: Db) => countAllMessages(tx, filter),
      feedCursor: feedCursor(),
    };
  };
  const { list, page, total } = await readLongList(exactCounts, call, messagesFor);
  return json(200, {
    items: page.rows.map(messageJson),
    ...some("nextCursor", page.nextCursor),
    ...totalJson(total),
    feedCursor: list.feedCursor,
  });
};
