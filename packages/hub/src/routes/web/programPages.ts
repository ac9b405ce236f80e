import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, findUserStanding, type UserStanding } from "@rootstock/store";
import { z } from "zod";
import {
  type BrowserSessions,
  crossOriginRefusal,
  type DeviceLogins,
  type LoginCodes,
  parseUserCode,
} from "../../auth/index.ts";
import type { Providers } from "../../oauth/index.ts";
import { anyone } from "../access.ts";
import { PUBLIC } from "../does.ts";
import { type Call, type Reply, type Route, route } from "../route.ts";
import { browserUser, redirect, signInFirst } from "./browserUser.ts";
import { asPage, FORM, FORM_BYTES, formOf, PAGE_REFUSES, PAGE_REPLIES, pageReply } from "./html.ts";
import { allowDeviceView, allowLoginView, decidedView, enterCodeView, staleLoginView } from "./programViews.ts";

/** Where a person is asked about a program on their own machine, and about one on another. */
export const LOGIN_REQUEST_PAGE = "/authorize";
export const DEVICE_PAGE = "/device";

const decisionForm = z.object({
  decision: z.enum(["allow", "deny"]),
  request: z.string().optional(),
  user_code: z.string().optional(),
});

export interface ProgramPageDeps {
  readonly db: Db;
  readonly clock: Clock;
  readonly sessions: Pick<BrowserSessions, "provenance">;
  readonly providers: Pick<Providers, "find">;
  readonly loginCodes: LoginCodes;
  readonly deviceLogins: DeviceLogins;
}

/** The pages on which people let programs in, signed in in whatever way this hub has. */
export const programPages = (deps: ProgramPageDeps): Route[] => {
  const { loginCodes, deviceLogins } = deps;

  const asked = async (call: Call): Promise<Reply> => {
    const sealed = parameter(call, "request");
    const request = await loginCodes.open(sealed);
    if (!request) return stale();
    const user = await browserUser(call);
    if (!user)
      return signInAt(deps, request.provider, `${LOGIN_REQUEST_PAGE}?${new URLSearchParams({ request: sealed })}`);
    return pageReply({
      title: "Sign the command line in",
      content: allowLoginView(request, user.email, sealed),
      formsLeadTo: new URL(request.callbackUrl).origin,
    });
  };

  const answered = async (call: Call): Promise<Reply> => {
    const form = formOf(call);
    const sealed = form.get("request") ?? "";
    const request = await loginCodes.open(sealed);
    if (!request) return stale();
    const user = await deciding(deps, call);
    if (!user) return signInFirst(`${LOGIN_REQUEST_PAGE}?${new URLSearchParams({ request: sealed })}`);
    const location = decisionOf(form)
      ? await loginCodes.allow(request, user, call.origin())
      : loginCodes.deny(request, call.origin());
    return redirect(location, [], 303);
  };

  const device = async (call: Call): Promise<Reply> => {
    const typed = parameter(call, "user_code");
    const user = await browserUser(call);
    if (!user) return signInFirst(typed ? `${DEVICE_PAGE}?${new URLSearchParams({ user_code: typed })}` : DEVICE_PAGE);
    if (typed === "") return enterCode(false);
    const waiting = await deviceLogins.find(typed, user);
    if (!waiting) return enterCode(true);
    const { program, address, created } = waiting;
    const secondsAgo = (deps.clock.now() - created.getTime()) / 1000;
    const content = allowDeviceView(
      { userCode: parseUserCode(typed) ?? typed, program, address, secondsAgo },
      user.email,
    );
    return pageReply({ title: "Sign this machine in", content });
  };

  const deviceAnswered = async (call: Call): Promise<Reply> => {
    const form = formOf(call);
    const user = await deciding(deps, call);
    if (!user) return signInFirst(DEVICE_PAGE);
    const allowed = decisionOf(form);
    if (!(await deviceLogins.decide(form.get("user_code") ?? "", user, allowed))) return enterCode(true);
    return pageReply({ title: allowed ? "Signed in" : "Denied", content: decidedView(allowed) });
  };

  const page = (path: string, handler: (call: Call) => Promise<Reply>): Route =>
    route({
      method: "GET",
      path,
      access: anyone,
      does: PUBLIC,
      summary: "A page on which a program is let in",
      replies: PAGE_REPLIES,
      refuses: PAGE_REFUSES,
      handler: asPage(handler),
    });
  const form = (path: string, handler: (call: Call) => Promise<Reply>): Route =>
    route({
      method: "POST",
      path,
      access: anyone,
      does: PUBLIC,
      maxBodyBytes: FORM_BYTES,
      summary: "What was decided on that page",
      replies: PAGE_REPLIES,
      refuses: PAGE_REFUSES,
      reads: { [FORM]: decisionForm },
      handler: asPage(handler),
    });
  return [
    page(LOGIN_REQUEST_PAGE, asked),
    form(LOGIN_REQUEST_PAGE, answered),
    page(DEVICE_PAGE, device),
    form(DEVICE_PAGE, deviceAnswered),
  ];
};

const stale = (): Promise<Reply> => pageReply({ title: "Login is over", status: 400, content: staleLoginView });

const enterCode = (wrong: boolean): Promise<Reply> =>
  pageReply({ title: "Sign a machine in", status: wrong ? 404 : 200, content: enterCodeView(wrong) });

/** Straight to the provider that a program has asked for, if there is one; else to the page of all ways in. */
const signInAt = ({ providers }: ProgramPageDeps, provider: string | undefined, path: string): Reply =>
  provider && providers.find(provider)
    ? redirect(`/auth/login/${provider}?${new URLSearchParams({ returnTo: path })}`)
    : signInFirst(path);

/**
 * Who has sent a form of ours, as they stand now; undefined when their session is over. Throws 403 for one that a page of
 * another site has sent.
 */
const deciding = async (
  { db, sessions }: Pick<ProgramPageDeps, "db" | "sessions">,
  call: Call,
): Promise<UserStanding | undefined> => {
  if (sessions.provenance(call.headers) !== "same-origin") throw crossOriginRefusal();
  const user = await browserUser(call);
  return user && findUserStanding(db, user.id);
};

/** What was pressed. A form without either button is no yes. */
const decisionOf = (form: URLSearchParams): boolean => {
  const decision = form.get("decision");
  if (decision !== "allow" && decision !== "deny") throw new HubError("invalid_request", "allow or deny is expected");
  return decision === "allow";
};

const parameter = (call: Pick<Call, "credentials">, name: string): string =>
  new URLSearchParams(call.credentials.query).get(name) ?? "";
