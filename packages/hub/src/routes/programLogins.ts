import { HubError, invalidField } from "@rootstock/protocol";
import type { Db } from "@rootstock/store";
import { z } from "zod";
import {
  askedProvider,
  type DeviceLogins,
  type LoginCodes,
  type ProgramLogin,
  parseLoopbackUrl,
  providersFor,
  type SignInWays,
  withQuery,
} from "../auth/index.ts";
import { parseDisplayName } from "../people/index.ts";
import { anyone } from "./access.ts";
import { PUBLIC } from "./does.ts";
import { text } from "./fields.ts";
import { type Call, json, type Reply, type Route, route } from "./route.ts";
import { signedIn, signedInReply } from "./userSessions.ts";
import { DEVICE_PAGE, LOGIN_REQUEST_PAGE } from "./web/index.ts";

/**
 * How programs get tokens for a person (spec/03 3.1 to 3.3): the person says yes on a page of this hub, whatever way they
 * sign in there. The program either waits on the same machine, where the browser takes it a code, or asks again and again.
 */

export interface ProgramLoginDeps {
  readonly db: Db;
  readonly loginCodes: LoginCodes;
  readonly deviceLogins: DeviceLogins;
  readonly signInWays: SignInWays;
}

const MAX_CODE = 512;
const MAX_URL = 2_048;
const MAX_PATH = 2_048;
const NO_STORE = { "cache-control": "no-store" };

const provider = text(100);
const CLIENT_TYPES = ["web", "cli", "device"] as const;

const deviceReply = z.object({
  deviceCode: z.string(),
  userCode: z.string(),
  verificationUrl: z.string(),
  verificationUrlComplete: z.string(),
  expiresIn: z.int(),
  interval: z.int(),
});
const waitingReply = (status: string) => z.object({ status: z.literal(status) });
const slowDownReply = z.object({ status: z.literal("slow_down"), interval: z.int() });

export const programLoginRoutes = (deps: ProgramLoginDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/auth/providers",
    access: anyone,
    does: PUBLIC,
    query: z.object({ clientType: z.string().optional() }),
    summary: "Ways to sign in, for a kind of client",
    replies: { 200: z.object({ clientType: z.enum(CLIENT_TYPES), providers: z.array(z.string()) }) },
    handler: ({ query }) => {
      const clientType = query.clientType?.trim();
      if (!clientType) throw missingFields("clientType");
      const known = CLIENT_TYPES.find((type) => type === clientType);
      if (!known)
        throw new HubError("validation_error", "invalid clientType", {
          details: { field: "clientType", allowed: [...CLIENT_TYPES] },
        });
      return json(200, { clientType: known, providers: providersFor(deps.signInWays, known) });
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/cli/authorize",
    access: anyone,
    limited: "login",
    does: PUBLIC,
    body: z.object({ callbackUrl: text(MAX_URL), state: text(MAX_CODE), provider }),
    summary: "Begins to sign a program on the person's machine in",
    replies: { 200: z.object({ url: z.string() }) },
    refuses: ["not_implemented"],
    handler: async (call) => {
      const { callbackUrl, state } = call.body;
      if (!callbackUrl || !state) throw missingFields("callbackUrl", "state");
      const loopback = parseLoopbackUrl(callbackUrl);
      if (!loopback) throw invalidField("callbackUrl", "callbackUrl must be http://127.0.0.1, localhost or [::1]");
      const sealed = await deps.loginCodes.seal({
        callbackUrl: loopback,
        state,
        provider: askedProvider(deps.signInWays, "cli", call.body.provider),
        ...askerOf(call),
      });
      const origin = call.origin();
      const url = withQuery(origin + LOGIN_REQUEST_PAGE, { request: sealed });
      // Longer, the page could not be come back to after signing in.
      if (url.length - origin.length > MAX_PATH) throw invalidField("callbackUrl", "callbackUrl or state is too long");
      return json(200, { url }, NO_STORE);
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/cli/token",
    access: anyone,
    limited: "login",
    does: PUBLIC,
    body: z.object({ code: text(MAX_CODE), callbackUrl: text(MAX_URL), provider }),
    summary: "Tokens for the code of a program's login",
    replies: { 200: signedInReply },
    refuses: ["oauth_error", "user_suspended", "unauthorized", "unauthorized_domain", "identity_not_linked"],
    handler: async ({ body: { code, callbackUrl } }) => {
      if (!code || !callbackUrl) throw missingFields("code", "callbackUrl");
      return programSignedIn(deps.db, await deps.loginCodes.redeem(code, callbackUrl));
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/cli/device",
    access: anyone,
    limited: "device",
    does: PUBLIC,
    body: z.object({ provider }),
    summary: "Begins to sign a program on another machine in",
    replies: { 200: deviceReply },
    refuses: ["not_implemented"],
    handler: async (call) => {
      askedProvider(deps.signInWays, "device", call.body.provider);
      const { deviceCode, userCode, expiresIn, interval } = await deps.deviceLogins.begin(askerOf(call));
      const verificationUrl = call.origin() + DEVICE_PAGE;
      const verificationUrlComplete = withQuery(verificationUrl, { user_code: userCode });
      return json(
        200,
        { deviceCode, userCode, verificationUrl, verificationUrlComplete, expiresIn, interval },
        NO_STORE,
      );
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/cli/device/token",
    access: anyone,
    limited: "poll",
    does: PUBLIC,
    body: z.object({ deviceCode: text(MAX_CODE), provider }),
    summary: "Asks whether a device was let in",
    replies: {
      200: signedInReply,
      202: waitingReply("authorization_pending"),
      410: waitingReply("expired_token"),
      429: slowDownReply,
    },
    refuses: ["oauth_error", "user_suspended", "unauthorized", "unauthorized_domain", "identity_not_linked"],
    handler: async ({ body: { deviceCode } }) => {
      if (!deviceCode) throw missingFields("deviceCode");
      const answer = await deps.deviceLogins.poll(deviceCode);
      switch (answer.status) {
        case "signed_in":
          return programSignedIn(deps.db, answer);
        case "authorization_pending":
          return json(202, { status: answer.status }, NO_STORE);
        case "slow_down":
          return json(429, { ...answer }, { ...NO_STORE, "retry-after": String(answer.interval) });
        case "expired_token":
          return json(410, { status: answer.status }, NO_STORE);
      }
    },
  }),
];

const programSignedIn = (db: Db, { user, tokens }: ProgramLogin): Promise<Reply> => signedIn(db, user, tokens);

/** What a person is told of a program that asks. */
const askerOf = ({ address, headers }: Pick<Call, "address" | "headers">) => ({
  address: address(),
  program: parseDisplayName(headers.get("user-agent")) || "an unnamed program",
});

/** 400 in the words of the original, with the names of all that are needed (spec/03 3.1). */
export const missingFields = (...required: string[]): HubError =>
  new HubError(
    "validation_error",
    required.length === 1 ? `missing required field: ${required[0]}` : "missing required fields",
    { details: { field: required[0], required } },
  );
