import { html } from "hono/html";
import type { UserPrincipal } from "../../auth/index.ts";
import { ACCOUNT_PATH } from "./browserUser.ts";
import type { Markup } from "./html.ts";
import type { Reason } from "./reasons.ts";

/** What the pages of sign-in show. */

export interface LoginView {
  readonly providers: readonly { readonly name: string; readonly label: string }[];
  /** Whether a proxy before the hub signs people in. */
  readonly proxy: boolean;
  readonly development: boolean;
  readonly returnTo: string;
  readonly invite?: string | undefined;
  readonly reason?: Reason | undefined;
  readonly notice?: string | undefined;
}

export const NOTHING = html``;

export const alert = (reason: Reason | undefined): Markup =>
  reason ? html`<div class="alert" role="alert"><strong>${reason.what}</strong> ${reason.next}</div>` : NOTHING;

export const notice = (text: string | undefined): Markup =>
  text ? html`<p class="notice" role="status">${text}</p>` : NOTHING;

/** A link and no form: what a form leads to, redirects included, must be of this site. */
const providerLinks = ({ providers, returnTo, invite }: LoginView): Markup =>
  html`${providers.map(({ name, label }, i) => {
    const query = new URLSearchParams({ ...(returnTo !== "/" && { returnTo }), ...(invite && { invite }) }).toString();
    const href = `/auth/login/${name}${query && `?${query}`}`;
    return html`<a class="${i === 0 ? "button main" : "button"}" href="${href}">Continue with ${label}</a>`;
  })}`;

const developmentForm = ({ providers, returnTo, proxy }: LoginView): Markup => {
  const form = html`<form method="post" action="/auth/login/development">
      <input type="hidden" name="returnTo" value="${returnTo}">
      <label for="token">Development token</label>
      <input id="token" name="token" type="password" autocomplete="off" required placeholder="scion_dev_…">
      <button class="${providers.length === 0 ? "button main" : "button"}" type="submit">Sign in for development</button>
    </form>`;
  return providers.length === 0 && !proxy ? form : html`<details><summary>Development</summary>${form}</details>`;
};

const howToSetUp = html`<p>No provider is set up that people could sign in with.</p>
  <p class="quiet">If you run this hub: give every replica the client id and secret of Google
    (<code>ROOTSTOCK_GOOGLE_CLIENT_ID</code>), GitHub (<code>ROOTSTOCK_GITHUB_CLIENT_ID</code>) or any OpenID Connect
    provider (<code>ROOTSTOCK_OIDC_ISSUER</code>), or put it behind Identity-Aware Proxy. “Sign in” in the README says how.</p>`;

const behindProxy = html`<p>This hub is behind a proxy that signs people in, and your request did not come through it.</p>
  <p class="quiet">Open the hub's public address.</p>
  <div class="actions"><a class="button main" href="/">Try again</a></div>`;

const waysIn = (view: LoginView): Markup => {
  const links = view.providers.length > 0 ? html`<div class="actions">${providerLinks(view)}</div>` : NOTHING;
  const development = view.development ? developmentForm(view) : NOTHING;
  if (view.providers.length > 0 || (view.development && !view.proxy)) return html`${links}${development}`;
  return html`${view.proxy ? behindProxy : howToSetUp}${development}`;
};

/** The page of all ways to sign in. */
export const loginView = (view: LoginView): Markup =>
  html`<h1>Sign in</h1>
    <p class="quiet">to this hub and its agents</p>
    ${alert(view.reason)}${notice(view.notice)}${waysIn(view)}`;

/** Somebody is signed in already; whoever sent them here may have seen another replica a moment ago. */
export const signedInView = (user: UserPrincipal, returnTo: string, reason: Reason | undefined): Markup =>
  html`<h1>You are signed in</h1>
    ${alert(reason)}
    <p>as <strong>${user.email}</strong>.</p>
    <div class="actions"><a class="button main" href="${returnTo}">Continue</a>
      <a class="button" href="/auth/logout">Sign out</a></div>`;

/** Somebody has come with an invite, and nobody knows yet who it is. */
export const invitedView = (view: LoginView): Markup =>
  html`<h1>You are invited</h1>
    <p class="quiet">Sign in, and the invite lets you in. It counts for the account that you choose here.</p>
    ${alert(view.reason)}${waysIn(view)}`;

/** Somebody who is known may accept an invite. `who`: undefined for somebody whom a proxy knows and who is not in yet. */
export const acceptInviteView = (code: string, who: string | undefined, reason: Reason | undefined): Markup =>
  html`<h1>You are invited</h1>
    ${alert(reason)}
    <p>${who ? html`You are signed in as <strong>${who}</strong>.` : "You are signed in, but not known to this hub yet."}</p>
    <form method="post" action="/invite">
      <input type="hidden" name="code" value="${code}">
      <div class="actions"><button class="button main" type="submit">Accept the invite</button></div>
    </form>`;

/** Somebody has no invite, or half of one. */
export const enterInviteView = (reason: Reason | undefined): Markup =>
  html`<h1>Have you got an invite?</h1>
    ${alert(reason)}
    <p class="quiet">Paste its code, or open the link that you were sent.</p>
    <form method="get" action="/invite">
      <label for="code">Invite code</label>
      <input id="code" name="code" type="text" autocomplete="off" spellcheck="false" required placeholder="scion_inv_…">
      <div class="actions"><button class="button main" type="submit">Go on</button></div>
    </form>`;

const MAY: Readonly<Record<UserPrincipal["role"], string>> = {
  admin: "Administrators may do everything, and decide who comes in.",
  member: "Members make projects and agents, and work with what is theirs or shared with them.",
  viewer: "Viewers look at what is shared with them, and change nothing.",
};

/** Who is signed in, and the ways out. `origin`: where the hub is; `proxy`: the way out is the proxy's. */
export const homeView = (user: UserPrincipal, origin: string, proxy: boolean, text: string | undefined): Markup =>
  html`<p class="quiet small">Signed in as</p>
    <h1>${user.displayName || user.email}</h1>
    ${notice(text)}
    <dl>
      <dt>E-mail</dt><dd>${user.email}</dd>
      <dt>Role</dt><dd>${user.role}</dd>
    </dl>
    <p class="quiet small">${MAY[user.role]}</p>
    <p class="small"><a href="${ACCOUNT_PATH}">Your sign-ins</a></p>
    <h2>On your machine</h2>
    <p class="quiet small">Sign the command line in:</p>
    <pre><code>scion hub auth login --hub-url ${origin}</code></pre>
    <div class="actions">
      ${
        proxy
          ? html`<a class="button" href="/auth/logout">Sign out</a>`
          : html`<form method="post" action="/auth/logout"><button class="button" type="submit">Sign out</button></form>`
      }
      <form method="post" action="/auth/logout">
        <input type="hidden" name="everywhere" value="1">
        <button class="button" type="submit">Sign out everywhere</button>
      </form>
    </div>`;

/** Another site has sent the browser to sign out: the person decides. */
export const confirmSignOutView = html`<h1>Sign out?</h1>
  <p class="quiet">Another site has sent you here.</p>
  <div class="actions">
    <form method="post" action="/auth/logout"><button class="button main" type="submit">Sign out</button></form>
    <a class="button" href="/">Stay signed in</a>
  </div>`;

/** Somebody is known and may not come in. */
export const refusedView = (
  reason: Reason | undefined,
  { signOut, invites }: { readonly signOut: string; readonly invites: boolean },
): Markup =>
  html`<h1>You cannot come in</h1>
    ${alert(reason)}
    <div class="actions">
      ${invites ? html`<a class="button main" href="/invite">I have an invite</a>` : NOTHING}
      <a class="button" href="${signOut}">Use another account</a>
    </div>`;
