import { type ErrorCode, HubError } from "@rootstock/protocol";
import { z } from "zod";
import { type BrowserSessions, crossOriginRefusal, type ProxyLogin, type UserPrincipal } from "../../auth/index.ts";
import type { Providers } from "../../oauth/index.ts";
import { inviteCodeHash, type People } from "../../people/index.ts";
import { anyone } from "../access.ts";
import { PUBLIC } from "../does.ts";
import { type Call, type Reply, type Route, route } from "../route.ts";
import { browserUser, LOGIN_PATH, redirect, safeReturnTo, signInFirst } from "./browserUser.ts";
import { asPage, FORM, FORM_BYTES, formOf, PAGE_REFUSES, PAGE_REPLIES, pageReply } from "./html.ts";
import { reasonOf } from "./reasons.ts";
import { ICON, STYLES } from "./styles.ts";
import {
  acceptInviteView,
  enterInviteView,
  homeView,
  invitedView,
  type LoginView,
  loginView,
  refusedView,
  signedInView,
} from "./views.ts";

export interface PageDeps {
  readonly people: Pick<People, "redeem">;
  readonly sessions: Pick<BrowserSessions, "provenance">;
  readonly providers: Providers;
  readonly proxyLogin: Pick<ProxyLogin, "kind" | "admit">;
  readonly developmentToken: string | undefined;
}

const page = (path: string, handler: (call: Call) => Promise<Reply> | Reply): Route =>
  route({
    method: "GET",
    path,
    access: anyone,
    does: PUBLIC,
    summary: "A page",
    replies: PAGE_REPLIES,
    refuses: PAGE_REFUSES,
    handler: asPage(handler),
  });

const asset = (path: string, type: string, text: string): Route =>
  route({
    method: "GET",
    path,
    access: anyone,
    does: PUBLIC,
    quiet: true,
    summary: "A part of pages",
    replies: { 200: { contentType: type.split(";", 1)[0] } },
    handler: () =>
      new Response(text, {
        headers: {
          "content-type": type,
          "cache-control": "public, max-age=31536000, immutable",
          "x-content-type-options": "nosniff",
        },
      }),
  });

/** The hub's own pages: who is signed in, the ways in, and invites. They need no session: they say who has none. */
export const pageRoutes = (deps: PageDeps): Route[] => {
  const view = (over: Partial<LoginView>): LoginView => ({
    providers: deps.providers.all,
    proxy: deps.proxyLogin.kind !== undefined,
    development: deps.developmentToken !== undefined,
    returnTo: "/",
    ...over,
  });

  const home = async (call: Call): Promise<Reply> => {
    const user = await known(call);
    if (user instanceof HubError) return refused(user);
    if (!user) return signInFirst("/");
    const text = parameter(call, "joined") ? "The invite is yours: you are in." : undefined;
    return pageReply({
      title: "Signed in",
      content: homeView(user, call.origin(), deps.proxyLogin.kind !== undefined, text),
    });
  };

  const refused = (err: HubError): Promise<Reply> =>
    pageReply({
      title: "You cannot come in",
      status: err.status,
      content: refusedView(reasonOf(err.code), {
        signOut: deps.proxyLogin.kind === undefined ? LOGIN_PATH : "/auth/logout",
        invites: !SAID_APART.has(err.code),
      }),
    });

  const login = async (call: Call): Promise<Reply> => {
    const error = parameter(call, "error");
    const returnTo = safeReturnTo(parameter(call, "returnTo"));
    const user = await known(call);
    // Known to the proxy, and refused: there is no other way to sign in than the proxy's.
    if (user instanceof HubError) return refused(user);
    const reason = reasonOf(error);
    // Not sent on: where replicas differ for a moment, the page there would send the browser back, and so on.
    if (user) return pageReply({ title: "Signed in", content: signedInView(user, returnTo, reason) });
    const notice = parameter(call, "signed_out") ? "You are signed out." : undefined;
    return pageReply({ title: "Sign in", content: loginView(view({ returnTo, reason, notice })) });
  };

  const invite = async (call: Call): Promise<Reply> => {
    const code = parameter(call, "code") ?? "";
    const reason = reasonOf(parameter(call, "error"));
    if (!inviteCodeHash(code)) {
      const content = enterInviteView(code ? reasonOf("invite_invalid") : reason);
      return pageReply({ title: "Invite", content });
    }
    const user = await known(call);
    const content = user
      ? acceptInviteView(code, user instanceof HubError ? undefined : user.email, reason)
      : invitedView(view({ invite: code, reason }));
    return pageReply({ title: "You are invited", content });
  };

  const acceptInvite = async (call: Call): Promise<Reply> => {
    if (deps.sessions.provenance(call.headers) !== "same-origin") throw crossOriginRefusal();
    const code = formOf(call).get("code") ?? "";
    const back = (error?: string) =>
      redirect(`/invite?${new URLSearchParams({ code, ...(error && { error }) })}`, [], 303);
    try {
      const user = await known(call);
      if (!user) return back();
      if (!(user instanceof HubError)) await deps.people.redeem(user, code);
      // Known to the proxy, and not in yet: the invite comes with the first sign-in.
      else await deps.proxyLogin.admit(call.credentials, { inviteCode: code });
    } catch (err) {
      if (!(err instanceof HubError) || err.status >= 500) throw err;
      return back(SAID_APART.has(err.code) ? err.code : "invite_invalid");
    }
    return redirect("/?joined=1", [], 303);
  };

  return [
    page("/", home),
    page(LOGIN_PATH, login),
    page("/invite", invite),
    route({
      method: "POST",
      path: "/invite",
      access: anyone,
      does: PUBLIC,
      maxBodyBytes: FORM_BYTES,
      summary: "Accepts an invite",
      replies: PAGE_REPLIES,
      refuses: PAGE_REFUSES,
      reads: { [FORM]: z.object({ code: z.string() }) },
      handler: asPage(acceptInvite),
    }),
    asset("/assets/site.css", "text/css; charset=utf-8", STYLES),
    asset("/assets/icon.svg", "image/svg+xml", ICON),
  ];
};

/** Whom no invite helps. */
const SAID_APART: ReadonlySet<string> = new Set<ErrorCode>(["user_suspended", "identity_not_linked"]);

/** Who calls; the refusal of somebody who is known to a proxy and may not come in. */
const known = async (call: Call): Promise<UserPrincipal | HubError | undefined> => {
  try {
    return await browserUser(call);
  } catch (err) {
    if (err instanceof HubError && (err.code === "unauthorized_domain" || SAID_APART.has(err.code))) return err;
    throw err;
  }
};

const parameter = (call: Call, name: string): string | undefined =>
  new URLSearchParams(call.credentials.query).get(name) ?? undefined;
