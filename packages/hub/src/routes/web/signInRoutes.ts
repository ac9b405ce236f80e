import { HubError } from "@rootstock/protocol";
import { type Db, findUserStanding, userById } from "@rootstock/store";
import { z } from "zod";
import type { Denials } from "../../audit/index.ts";
import {
  type BrowserSessions,
  crossOriginRefusal,
  DEVELOPMENT_USER,
  FixedToken,
  type ProxyLogin,
  type SignIns,
} from "../../auth/index.ts";
import { ProviderError, type Providers, type TakenAlong, type WebSignIn, WebSignInError } from "../../oauth/index.ts";
import type { LinkedSignIns, People } from "../../people/index.ts";
import { id, some } from "../../wire/index.ts";
import { anyone } from "../access.ts";
import { PUBLIC } from "../does.ts";
import { type Call, json, type Reply, type Route, route } from "../route.ts";
import { HTML } from "../shapes.ts";
import { browserUser, LOGIN_PATH, redirect, safeReturnTo, withQuery } from "./browserUser.ts";
import { asPage, FORM, FORM_BYTES, formOf, PAGE_REFUSES, PAGE_REPLIES, pageReply, wantsHtml } from "./html.ts";
import { linkFailureOf, linkTo } from "./linking.ts";
import { confirmSignOutView } from "./views.ts";

export interface SignInRouteDeps {
  readonly db: Db;
  readonly people: Pick<People, "signIn">;
  readonly linkedSignIns: Pick<LinkedSignIns, "link">;
  readonly sessions: BrowserSessions;
  readonly signIns: Pick<SignIns, "endAll">;
  readonly providers: Providers;
  readonly webSignIn: WebSignIn;
  readonly proxyLogin: Pick<ProxyLogin, "kind">;
  readonly developmentToken: string | undefined;
  readonly denials: Pick<Denials, "record">;
}

const NO_STORE = { "cache-control": "no-store" };
const IAP_SIGN_OUT = "/_gcp_iap/clear_login_cookie";

const page = (summary: string) => ({ summary, replies: PAGE_REPLIES, refuses: PAGE_REFUSES });
const SIGN_OUT = {
  summary: "Signs out",
  replies: { ...PAGE_REPLIES, 200: [HTML, z.object({ success: z.literal(true) })] },
  refuses: PAGE_REFUSES,
};
const meReply = z.object({
  id,
  email: z.string(),
  displayName: z.string(),
  avatarUrl: z.string().optional(),
  role: z.string(),
});
const providersReply = z.object({
  google: z.boolean(),
  github: z.boolean(),
  oidc: z.literal(true).optional(),
  authMode: z.literal("proxy").optional(),
});

/** Signing in and out with a browser (spec/03 3.5). */
export const signInRoutes = (deps: SignInRouteDeps): Route[] => {
  const developmentToken = deps.developmentToken === undefined ? undefined : new FixedToken(deps.developmentToken);

  const begin = async (call: Call): Promise<Reply> => {
    const query = new URLSearchParams(call.credentials.query);
    const along: TakenAlong = {
      returnTo: safeReturnTo(query.get("returnTo")),
      invite: query.get("invite")?.slice(0, 256) || undefined,
    };
    const provider = deps.providers.find(call.params.provider ?? "");
    if (!provider) return failed("invalid_provider", along);
    try {
      const { location, cookie } = await deps.webSignIn.begin(provider, call.origin(), along);
      return redirect(location, [cookie]);
    } catch (err) {
      if (!(err instanceof ProviderError)) throw err;
      call.log().warn({ provider: provider.name, failure: err.failure, reason: err.message }, "provider not asked");
      return failed(err.failure, along);
    }
  };

  const finish = async (call: Call): Promise<Reply> => {
    const { webSignIn, people, sessions } = deps;
    const { headers, credentials } = call;
    const provider = call.params.provider ?? "";
    const params = new URLSearchParams(credentials.query);
    // Whatever comes of it, the same callback is good for nothing afterwards.
    const over = webSignIn.cleared(headers);
    const cookies = over === undefined ? [] : [over];
    const along = await webSignIn.along(headers);
    try {
      const { identity, returnTo, invite, link } = await webSignIn.finish(provider, headers, params);
      if (link) {
        await linkTo(deps.linkedSignIns, call, link, identity);
        return redirect(withQuery(returnTo, { linked: "1" }), cookies);
      }
      const user = await people.signIn(identity, { inviteCode: invite });
      // Whoever sat here before is not to be found under the same browser's earlier cookie.
      await sessions.end(credentials);
      const { id, email, token_version: tokenVersion } = user;
      const session = await sessions.begin({ id, email, tokenVersion }, call.origin());
      return redirect(returnTo, [...cookies, session]);
    } catch (err) {
      const failure = along?.link ? linkFailureOf(err) : failureOf(err, along);
      if (err instanceof ProviderError || err instanceof WebSignInError)
        call.log().warn({ provider, failure, reason: err.message }, "sign-in came to nothing");
      else if (!(err instanceof HubError)) throw err;
      if (along?.link && failure !== "link_session")
        return redirect(withQuery(along.returnTo, { error: failure }), cookies);
      return failed(failure, along, cookies);
    }
  };

  const developmentSignIn = async (call: Call): Promise<Reply> => {
    if (deps.sessions.provenance(call.headers) !== "same-origin") throw crossOriginRefusal();
    const form = formOf(call);
    const returnTo = safeReturnTo(form.get("returnTo"));
    if (!developmentToken) throw new HubError("not_implemented", "development login is not enabled");
    const user = developmentToken.matches(form.get("token")?.trim() ?? "")
      ? await findUserStanding(deps.db, DEVELOPMENT_USER.id)
      : undefined;
    if (user?.status !== "active") {
      const reason = user ? "the development user is suspended" : "invalid development token";
      await deps.denials.record({
        action: "login_denied",
        reason,
        targetType: "user",
        details: { way: "development" },
      });
      return failed("development_token", { returnTo }, [], 303);
    }
    return redirect(returnTo, [await deps.sessions.begin(user, call.origin())], 303);
  };

  const signOut = async (call: Call): Promise<Reply> => {
    const html = wantsHtml(call.headers);
    // A HEAD is answered as its GET is, and a browser sends its cookies along with either.
    const looking = call.method !== "POST";
    if (looking && deps.sessions.provenance(call.headers) === "cross-origin") {
      if (!html) throw crossOriginRefusal();
      return pageReply({ title: "Sign out?", content: confirmSignOutView });
    }
    if (!looking && formOf(call).get("everywhere") === "1") {
      const user = await browserUser(call);
      if (user) await deps.signIns.endAll(user.id);
    }
    const cleared = await deps.sessions.end(call.credentials);
    const cookies = cleared === undefined ? [] : [cleared];
    const to = deps.proxyLogin.kind === "iap" ? IAP_SIGN_OUT : `${LOGIN_PATH}?signed_out=1`;
    if (html) return redirect(to, cookies, looking ? 302 : 303);
    const reply = json(200, { success: true }, NO_STORE);
    for (const cookie of cookies) reply.headers.append("set-cookie", cookie);
    return reply;
  };

  const me = async (call: Call): Promise<Reply> => {
    const user = await browserUser(call);
    if (!user) return json(401, { error: "authentication required" }, NO_STORE);
    const { id, email, displayName, role } = user;
    const row = await userById(deps.db, id);
    return json(200, { id, email, displayName, ...some("avatarUrl", row?.avatar_url), role }, NO_STORE);
  };

  const listed = () => {
    const { all } = deps.providers;
    const has = (name: string) => all.some((p) => p.name === name);
    return json(200, {
      google: has("google"),
      github: has("github"),
      ...(has("oidc") && { oidc: true }),
      ...(deps.proxyLogin.kind && { authMode: "proxy" }),
    });
  };

  const open = { access: anyone, does: PUBLIC } as const;
  const toLogin = (call: Call): Reply => {
    const returnTo = safeReturnTo(new URLSearchParams(call.credentials.query).get("returnTo"));
    return redirect(withQuery(LOGIN_PATH, { returnTo: returnTo === "/" ? undefined : returnTo }));
  };
  return [
    route({ ...open, ...page("To the page with the ways in"), method: "GET", path: "/auth/login", handler: toLogin }),
    route({ ...open, ...page("To the page with the ways in"), method: "GET", path: "/auth/login/", handler: toLogin }),
    route({
      ...open,
      ...page("Signs in with the development token"),
      method: "POST",
      path: "/auth/login/development",
      maxBodyBytes: FORM_BYTES,
      reads: { [FORM]: z.object({ token: z.string(), returnTo: z.string().optional() }) },
      handler: asPage(developmentSignIn),
    }),
    route({
      ...open,
      ...page("Begins to sign in at a provider"),
      method: "GET",
      path: "/auth/login/:provider",
      handler: asPage(begin),
    }),
    // Each one asks the provider something.
    route({
      ...open,
      ...page("Back from a provider"),
      method: "GET",
      path: "/auth/callback/:provider",
      limited: "login",
      handler: asPage(finish),
    }),
    route({ ...open, ...SIGN_OUT, method: "GET", path: "/auth/logout", handler: asPage(signOut) }),
    route({
      ...open,
      ...SIGN_OUT,
      method: "POST",
      path: "/auth/logout",
      maxBodyBytes: FORM_BYTES,
      reads: { [FORM]: z.object({ everywhere: z.string().optional() }) },
      handler: asPage(signOut),
    }),
    route({
      ...open,
      method: "GET",
      path: "/auth/me",
      summary: "Who is signed in",
      replies: { 200: meReply, 401: z.object({ error: z.string() }) },
      refuses: [
        "session_expired",
        "unauthorized",
        "user_suspended",
        "unauthorized_domain",
        "identity_not_linked",
        "forbidden",
      ],
      handler: me,
    }),
    route({
      ...open,
      method: "GET",
      path: "/auth/providers",
      summary: "Providers at which people sign in",
      replies: { 200: providersReply },
      handler: listed,
    }),
  ];
};

/** Back to where it began, with the reason: the page of the invite if there is one, else that of all ways in. */
const failed = (
  error: string,
  along: TakenAlong | undefined,
  cookies: readonly string[] = [],
  status: 302 | 303 = 302,
): Reply => {
  const { invite, returnTo = "/" } = along ?? {};
  const location = invite
    ? withQuery("/invite", { code: invite, error })
    : withQuery(LOGIN_PATH, { error, returnTo: returnTo === "/" ? undefined : returnTo });
  return redirect(location, cookies, status);
};

const failureOf = (err: unknown, along: TakenAlong | undefined): string => {
  if (err instanceof ProviderError || err instanceof WebSignInError) return err.failure;
  const code = err instanceof HubError ? err.code : undefined;
  if (code === "unauthorized_domain") return along?.invite ? "invite_invalid" : code;
  return code === "user_suspended" || code === "identity_not_linked" ? code : "user_create_failed";
};
