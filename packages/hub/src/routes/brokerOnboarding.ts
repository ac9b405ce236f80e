import { createHash } from "node:crypto";
import { encodeNonce, HubError, parseUuid, type Uuid } from "@rootstock/protocol";
import type { Random } from "@rootstock/service";
import {
  actingFor,
  type Db,
  findRuntimeBroker,
  findRuntimeBrokerByName,
  insertRuntimeBroker,
  isUniqueViolation,
  lockRuntimeBroker,
  markRuntimeBrokerJoined,
  type RuntimeBrokerRow,
  recordAudit,
  takeJoinToken,
  transaction,
  updateRuntimeBroker,
  upsertJoinToken,
} from "@rootstock/store";
import { z } from "zod";
import type { Denials } from "../audit/index.ts";
import { isAdmin, type RuntimeBrokerSecrets, type UserPrincipal } from "../auth/index.ts";
import { id, some, time, timestamp } from "../wire/index.ts";
import { anyone, users, usersAndRuntimeBrokers } from "./access.ts";
import type { ResourceDeps } from "./deps.ts";
import { PUBLIC } from "./does.ts";
import { flag, labels, MAX_NAME, text } from "./fields.ts";
import { optionalUuid } from "./lookup.ts";
import { toReply } from "./replies.ts";
import { may } from "./rights.ts";
import { json, type Route, route } from "./route.ts";
import { runtimeBrokerOf, runtimeBrokerResource } from "./runtimeBrokerRights.ts";
import { runtimeBrokerSlug } from "./runtimeBrokers.ts";

/** How a machine becomes a runtime broker: registered by a person, joined by itself, its secret rotated (spec/01 1.2–1.4). */

export interface OnboardingDeps {
  readonly db: Db;
  readonly random: Random;
  readonly secrets: RuntimeBrokerSecrets;
  readonly once: ResourceDeps["once"];
  readonly denied: Denials["record"];
  /** Called after a commit that touched what the change feed shows. */
  readonly changed: () => void;
}

const JOIN_TOKEN_PREFIX = "scion_join_";
const JOIN_TOKEN_BYTES = 32;
const JOIN_TOKEN_TTL_SECONDS = 3600;
const NS_PER_MS = 1_000_000;
const DEFAULT_GRACE_NS = 300_000 * NS_PER_MS;
const MAX_GRACE_NS = 7 * 86_400_000 * NS_PER_MS;
/** A name or id taken between look-up and insert is looked up again. */
const REGISTER_ATTEMPTS = 3;

const registerBody = z.object({
  brokerId: text(64),
  name: z.string().trim().min(1, "name is required").max(MAX_NAME),
  autoProvide: flag,
  labels,
  joinTokenTtlSeconds: z.number().int().min(300).max(86_400).nullish(),
  preserveSettings: flag,
});

const joinBody = z.object({
  brokerId: z.string().min(1, "brokerId is required").max(64),
  joinToken: z.string().min(1, "joinToken is required").max(256),
  version: text(128),
  profiles: z
    .array(z.looseObject({ name: z.string().max(MAX_NAME) }))
    .max(256)
    .nullish(),
});

const rotateBody = z.object({ gracePeriod: z.number().int().min(0).max(MAX_GRACE_NS).nullish() });

const registerReply = z.object({
  brokerId: id,
  joinToken: z.string(),
  expiresAt: timestamp,
  reregistered: z.boolean().optional(),
  reissued: z.boolean().optional(),
});
const joinReply = z.object({ secretKey: z.string(), hubEndpoint: z.string(), brokerId: id });
const rotateReply = z.object({ secretKey: z.string(), rotatedAt: timestamp, gracePeriod: z.string() });

interface Registered {
  readonly id: Uuid;
  readonly reregistered: boolean;
  readonly expiresAt: Date;
  readonly reissued: boolean;
}

export const brokerOnboardingRoutes = (deps: OnboardingDeps): Route[] => {
  const { db } = deps;

  const register = async (
    tx: Db,
    user: UserPrincipal,
    body: z.output<typeof registerBody>,
    tokenHash: string,
  ): Promise<Registered> => {
    const given = optionalUuid("brokerId", body.brokerId);
    const found =
      (await findRuntimeBrokerByName(tx, body.name)) ??
      (given === undefined ? undefined : await findRuntimeBroker(tx, given));
    const id = found?.id ?? given ?? deps.random.uuid();
    if (found && !(await may(user, "update", runtimeBrokerResource(found))))
      throw new HubError("forbidden", "a runtime broker with this name or id belongs to somebody else");
    if (offersItself(body, found)) demandAdmin(user);
    if (found) {
      await lockRuntimeBroker(tx, id);
      if (!body.preserveSettings)
        await updateRuntimeBroker(tx, id, {
          auto_provide: body.autoProvide ?? false,
          ...(body.labels && { labels: JSON.stringify(body.labels) }),
        });
    } else {
      await insertRuntimeBroker(tx, {
        id,
        name: body.name,
        slug: runtimeBrokerSlug(body.name),
        autoProvide: body.autoProvide ?? false,
        labels: body.labels ?? {},
        createdBy: user.id,
      });
    }
    const ttlMs = (body.joinTokenTtlSeconds ?? JOIN_TOKEN_TTL_SECONDS) * 1000;
    const { expiresAt, replaced } = await upsertJoinToken(tx, {
      runtimeBrokerId: id,
      tokenHash,
      ttlMs,
      createdBy: user.id,
    });
    return { id, reregistered: found !== undefined, expiresAt, reissued: replaced };
  };

  return [
    route({
      method: "POST",
      path: "/api/v1/brokers",
      access: users,
      limited: "create",
      does: { action: "create", on: "runtimeBroker" },
      body: registerBody,
      summary: "Registers a runtime broker, and gives the token with which it joins",
      replies: { 201: registerReply },
      refuses: ["conflict"],
      handler: async (call) => {
        const { principal } = call;
        if (principal.kind !== "user") throw new HubError("forbidden", "only users register runtime brokers");
        const joinToken = JOIN_TOKEN_PREFIX + encodeNonce(deps.random.bytes(JOIN_TOKEN_BYTES));
        const answer = await repeatOnConflict(() =>
          deps.once(call, async (tx) => {
            const registered = await register(tx, principal, call.body, hashOf(joinToken));
            return {
              status: 201,
              body: {
                brokerId: registered.id,
                joinToken,
                expiresAt: time(registered.expiresAt),
                ...some("reregistered", registered.reregistered),
                ...some("reissued", registered.reissued),
              },
            };
          }),
        );
        deps.changed();
        return toReply(answer);
      },
    }),
    route({
      method: "POST",
      path: "/api/v1/brokers/join",
      access: anyone,
      limited: "join",
      does: PUBLIC,
      body: joinBody,
      summary: "A machine joins with its token, and gets its secret",
      replies: { 200: joinReply },
      refuses: ["expired_join_token", "invalid_join_token"],
      handler: async (call) => {
        const { body } = call;
        const id = parseUuid(body.brokerId);
        if (id === undefined)
          throw new HubError("validation_error", "brokerId must be a UUID", { details: { field: "brokerId" } });
        const joined = await transaction(db, async (tx) => {
          await lockRuntimeBroker(tx, id);
          const token = await takeJoinToken(tx, id, hashOf(body.joinToken));
          if (token !== "valid") return { token };
          const { key } = await deps.secrets.replace(tx, id, 0);
          await markRuntimeBrokerJoined(tx, id, {
            version: body.version ?? "",
            profiles: body.profiles?.length ? body.profiles : undefined,
          });
          await actingFor({ kind: "runtimeBroker", id, credential: "join_token" }, () =>
            recordAudit(tx, { action: "runtime_broker_join", targetType: "runtime_broker", targetId: id }),
          );
          return { token, key };
        });
        if (joined.token !== "valid")
          await deps.denied({
            action: "runtime_broker_join",
            reason: `${joined.token} join token`,
            targetType: "runtime_broker",
            targetId: id,
          });
        if (joined.token === "expired") throw new HubError("expired_join_token", "the join token has expired");
        if (!joined.key) throw new HubError("invalid_join_token", "the join token is not valid");
        deps.changed();
        return json(200, { secretKey: joined.key.toString("base64"), hubEndpoint: call.origin(), brokerId: id });
      },
    }),
    route({
      method: "POST",
      path: "/api/v1/brokers/:brokerId/rotate-secret",
      access: usersAndRuntimeBrokers,
      does: { action: "rotate", on: "runtimeBroker" },
      body: rotateBody,
      summary: "A new secret for a runtime broker; the old one stays good for a while",
      replies: { 200: rotateReply },
      refuses: ["conflict"],
      handler: async (call) => {
        const { id } = await runtimeBrokerOf(db, call);
        const graceNs = call.body.gracePeriod ?? DEFAULT_GRACE_NS;
        const answer = await deps.once(call, async (tx) => {
          await lockRuntimeBroker(tx, id);
          const { key, rotatedAt } = await deps.secrets.replace(tx, id, Math.floor(graceNs / NS_PER_MS));
          await recordAudit(tx, {
            action: "runtime_broker_rotate",
            targetType: "runtime_broker",
            targetId: id,
            details: { gracePeriodSeconds: graceNs / NS_PER_MS / 1000 },
          });
          return {
            status: 200,
            body: {
              secretKey: key.toString("base64"),
              rotatedAt: time(rotatedAt),
              gracePeriod: goDuration(graceNs),
            },
          };
        });
        return toReply(answer);
      },
    }),
  ];
};

/** Whether a runtime broker would be one for every project that was none before. */
const offersItself = (
  { autoProvide, preserveSettings }: z.output<typeof registerBody>,
  found: RuntimeBrokerRow | undefined,
): boolean => autoProvide === true && found?.auto_provide !== true && !(found && preserveSettings);

/**
 * Throws 403. What serves every project is sent everybody's agents, with their tasks, tokens and values: it is not for
 * anybody to put their own machine there (weak point 14).
 */
const demandAdmin = (user: UserPrincipal): void => {
  if (isAdmin(user)) return;
  throw new HubError(
    "forbidden",
    "only administrators offer a runtime broker to every project; register it without auto-provide and link it to yours",
  );
};

const hashOf = (token: string): string => createHash("sha256").update(token).digest("base64");

const repeatOnConflict = async <T>(work: () => Promise<T>): Promise<T> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (err) {
      if (attempt >= REGISTER_ATTEMPTS || !isUniqueViolation(err)) throw err;
    }
  }
};

/** A duration as Go writes it: `5m0s`, `1h0m0.5s`, `250ms`, `0s`. */
export const goDuration = (ns: number): string => {
  if (ns === 0) return "0s";
  if (ns < 1_000) return `${ns}ns`;
  if (ns < NS_PER_MS) return `${ns / 1_000}µs`;
  if (ns < 1_000 * NS_PER_MS) return `${ns / NS_PER_MS}ms`;
  const wholeSeconds = Math.floor(ns / (1_000 * NS_PER_MS));
  const [hours, minutes] = [Math.floor(wholeSeconds / 3600), Math.floor(wholeSeconds / 60) % 60];
  const fraction = String(ns % (1_000 * NS_PER_MS))
    .padStart(9, "0")
    .replace(/0+$/, "");
  const seconds = `${wholeSeconds % 60}${fraction && `.${fraction}`}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
};
