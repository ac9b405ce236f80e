import { HubError, parseUuid } from "@rootstock/protocol";
import { z } from "zod";
import { type BrowserSessions, crossOriginRefusal, type ProxyLogin, type UserPrincipal } from "../../auth/index.ts";
import { ProviderError, type Providers, type WebSignIn } from "../../oauth/index.ts";
import { type LinkedSignIns, namesOfIssuer } from "../../people/index.ts";
import { anyone } from "../access.ts";
import { PUBLIC } from "../does.ts";
import { wayOf } from "../identities.ts";
import { type Call, type Reply, type Route, route } from "../route.ts";
import { accountView, onTheWayView } from "./accountViews.ts";
import { ACCOUNT_PATH, browserUser, redirect, signInFirst, withQuery } from "./browserUser.ts";
import { asPage, FORM, FORM_BYTES, formOf, PAGE_REFUSES, PAGE_REPLIES, pageReply } from "./html.ts";
import { onBehalfOf } from "./linking.ts";
import { reasonOf } from "./reasons.ts";

export interface AccountPageDeps {
  readonly sessions: Pick<BrowserSessions, "provenance" | "begin">;
  readonly providers: Providers;
  readonly webSignIn: Pick<WebSignIn, "begin">;
  readonly linkedSignIns: Pick<LinkedSignIns, "list" | "unlink" | "isOpen">;
  readonly proxyLogin: Pick<ProxyLogin, "provenBy">;
}

const NOTICES: Readonly<Record<string, string>> = {
  linked: "Linked: from now on that sign-in opens this account.",
  unlinked: "Unlinked. You were signed out everywhere but here.",
};

/** The page on which people see, link and unlink what opens their account. */
export const accountPages = (deps: AccountPageDeps): Route[] => {
  const { linkedSignIns, providers, proxyLogin, sessions, webSignIn } = deps;

  const account = async (call: Call): Promise<Reply> => {
    const user = await browserUser(call);
    if (!user) return signInFirst(ACCOUNT_PATH);
    const query = new URLSearchParams(call.credentials.query);
    const linked = await linkedSignIns.list(user.id);
    const signIns = linked.map(({ id, issuer, email, created, last_login: lastUsed }) => {
      const { label } = wayOf(providers, issuer);
      return { id, label, issuer, email, created, lastUsed };
    });
    const linkable = providers.all.filter(({ issuer }) => {
      const names = namesOfIssuer(issuer);
      return linked.every((row) => !names.includes(row.issuer));
    });
    const said = Object.keys(NOTICES).find((name) => query.has(name));
    const content = accountView({
      email: user.email,
      signIns,
      linkable: linkedSignIns.isOpen(user.id) ? linkable : undefined,
      reason: reasonOf(query.get("error") ?? undefined),
      notice: said && NOTICES[said],
    });
    return pageReply({ title: "Your sign-ins", content });
  };

  /** Who has sent a form of this page. Throws 403 for one that a page of another site has sent. */
  const sender = (call: Call): Promise<UserPrincipal | undefined> => {
    if (sessions.provenance(call.headers) !== "same-origin") throw crossOriginRefusal();
    return browserUser(call);
  };

  const link = async (call: Call): Promise<Reply> => {
    const user = await sender(call);
    if (!user) return signInFirst(ACCOUNT_PATH);
    const provider = providers.find(call.params.provider ?? "");
    if (!provider) return back({ error: "invalid_provider" });
    if (!linkedSignIns.isOpen(user.id))
      throw new HubError("conflict", "the development user has no sign-ins of its own");
    try {
      const to = { userId: user.id, signInId: user.session?.signInId };
      const { location, cookie } = await webSignIn.begin(provider, call.origin(), { returnTo: ACCOUNT_PATH, link: to });
      // A page and no redirect: where a form leads must be named beforehand, and whereto the provider sends on is not known.
      const content = onTheWayView(provider.label, location);
      return pageReply({ title: `On to ${provider.label}`, content, cookies: [cookie], forward: location });
    } catch (err) {
      if (!(err instanceof ProviderError)) throw err;
      call.log().warn({ provider: provider.name, failure: err.failure, reason: err.message }, "provider not asked");
      return back({ error: err.failure });
    }
  };

  const unlink = async (call: Call): Promise<Reply> => {
    const user = await sender(call);
    if (!user) return signInFirst(ACCOUNT_PATH);
    const id = parseUuid(formOf(call).get("id") ?? "");
    if (!id) return back();
    try {
      const inUse = await proxyLogin.provenBy(call.credentials);
      const now = await onBehalfOf(user, () => linkedSignIns.unlink(user.id, id, { evenLast: false, inUse }));
      // The session that asked is void with all others.
      const standing = { id: now.id, email: now.email, tokenVersion: now.token_version };
      return back({ unlinked: "1" }, user.session ? [await sessions.begin(standing, call.origin())] : []);
    } catch (err) {
      if (!(err instanceof HubError) || err.status >= 500) throw err;
      if (err.code !== "conflict") return back();
      return back({ error: err.details?.reason === "in_use" ? "sign_in_in_use" : "last_sign_in" });
    }
  };

  const shown = {
    access: anyone,
    does: PUBLIC,
    replies: PAGE_REPLIES,
    refuses: [...PAGE_REFUSES, "conflict"],
  } as const;
  return [
    route({
      ...shown,
      method: "GET",
      path: ACCOUNT_PATH,
      summary: "The page about one's own sign-ins",
      handler: asPage(account),
    }),
    route({
      ...shown,
      method: "POST",
      path: "/auth/link/:provider",
      maxBodyBytes: FORM_BYTES,
      summary: "Begins to link a sign-in to one's account",
      reads: { [FORM]: z.object({}) },
      handler: asPage(link),
    }),
    route({
      ...shown,
      method: "POST",
      path: "/auth/unlink",
      maxBodyBytes: FORM_BYTES,
      summary: "Unlinks a sign-in from one's account",
      reads: { [FORM]: z.object({ id: z.string() }) },
      handler: asPage(unlink),
    }),
  ];
};

const back = (query: Readonly<Record<string, string>> = {}, cookies: readonly string[] = []): Reply =>
  redirect(withQuery(ACCOUNT_PATH, query), cookies, 303);
