import { html } from "hono/html";
import type { Markup } from "./html.ts";
import type { Reason } from "./reasons.ts";
import { alert, NOTHING, notice } from "./views.ts";

/** What the page about one's own sign-ins shows. */

export interface SignInView {
  readonly id: string;
  readonly label: string;
  readonly issuer: string;
  readonly email: string;
  readonly created: Date;
  readonly lastUsed: Date;
}

export interface AccountView {
  readonly email: string;
  readonly signIns: readonly SignInView[];
  /** Providers of which none is linked; undefined: nothing can be linked to this account. */
  readonly linkable: readonly { readonly name: string; readonly label: string }[] | undefined;
  readonly reason?: Reason | undefined;
  readonly notice?: string | undefined;
}

const day = (at: Date): Markup => html`<time datetime="${at.toISOString()}">${at.toISOString().slice(0, 10)}</time>`;

const signIn = ({ id, label, issuer, email, created, lastUsed }: SignInView, removable: boolean): Markup =>
  html`<li>
    <div>
      <strong>${label}</strong>
      <span>${email}</span>
      <span class="quiet small">${issuer}</span>
      <span class="quiet small">linked ${day(created)}, last used ${day(lastUsed)}</span>
    </div>
    ${
      removable
        ? html`<form method="post" action="/auth/unlink">
            <input type="hidden" name="id" value="${id}">
            <button class="button" type="submit" aria-label="Unlink ${label}">Unlink</button>
          </form>`
        : NOTHING
    }
  </li>`;

const links = (linkable: NonNullable<AccountView["linkable"]>): Markup =>
  linkable.length === 0
    ? NOTHING
    : html`<h2>Link another</h2>
        <p class="quiet small">It will open this account as well, whatever its address. Link only what is yours alone.</p>
        <div class="actions">${linkable.map(
          ({ name, label }) =>
            html`<form method="post" action="/auth/link/${name}">
              <button class="button" type="submit">Link ${label}</button>
            </form>`,
        )}</div>`;

/** Which sign-ins open one's account. */
export const accountView = ({ email, signIns, linkable, reason, notice: text }: AccountView): Markup =>
  html`<h1>Your sign-ins</h1>
    <p class="quiet">These open the account <strong>${email}</strong>.</p>
    ${alert(reason)}${notice(text)}
    ${signIns.length === 0 ? html`<p>None: this account is not linked to any provider.</p>` : NOTHING}
    <ul class="sign-ins">${signIns.map((one) => signIn(one, signIns.length > 1))}</ul>
    ${signIns.length > 1 ? html`<p class="quiet small">Unlinking signs you out everywhere but here.</p>` : NOTHING}
    ${linkable ? links(linkable) : NOTHING}
    <div class="actions"><a class="button" href="/">Back</a></div>`;

/** On the way to a provider. */
export const onTheWayView = (label: string, location: string): Markup =>
  html`<h1>On to ${label}</h1>
    <p class="quiet">Sign in there with what you want to link.</p>
    <div class="actions"><a class="button main" href="${location}">Continue to ${label}</a></div>`;
