import { html } from "hono/html";
import type { LoginRequest } from "../../auth/index.ts";
import type { Markup } from "./html.ts";

/** What people are shown of programs that ask to be signed in. */

/** A question with two answers, as a form that is sent to `action`. */
const decision = (action: string, field: string, value: string): Markup =>
  html`<form method="post" action="${action}">
      <input type="hidden" name="${field}" value="${value}">
      <div class="actions">
        <button class="button main" type="submit" name="decision" value="allow">Allow</button>
        <button class="button" type="submit" name="decision" value="deny">Deny</button>
      </div>
    </form>`;

/** A program on the person's own machine asks. */
export const allowLoginView = (request: LoginRequest, email: string, sealed: string): Markup =>
  html`<h1>Sign the command line in?</h1>
    <p>A program asks to act for you, <strong>${email}</strong>, on this hub for 30 days.</p>
    <dl>
      <dt>Program</dt><dd>${request.program}</dd>
      <dt>Asked from</dt><dd>${request.address || "unknown"}</dd>
      <dt>Answer to</dt><dd><code>${request.callbackUrl}</code></dd>
    </dl>
    <p class="quiet small">Allow this only if you have just run a login command on this machine. If somebody sent you the
      link, deny it.</p>
    ${decision("/authorize", "request", sealed)}`;

/** What a program asked is not known here, or was too long ago. */
export const staleLoginView = html`<h1>This login is over</h1>
  <p class="alert" role="alert">The link is older than ten minutes, or not whole.</p>
  <p class="quiet">Run <code>scion hub auth login</code> again.</p>`;

/** The person types the code that a program on another machine shows. `wrong`: the one before was none. */
export const enterCodeView = (wrong: boolean): Markup =>
  html`<h1>Sign a machine in</h1>
    ${
      wrong
        ? html`<div class="alert" role="alert"><strong>Nothing waits for this code.</strong> It may be mistyped, used, or
      older than ten minutes.</div>`
        : html``
    }
    <p class="quiet">Type the code that the program there shows.</p>
    <form method="get" action="/device">
      <label for="user_code">Code</label>
      <input id="user_code" name="user_code" type="text" autocomplete="off" autocapitalize="characters" spellcheck="false"
        required maxlength="40" placeholder="XXXX-XXXX">
      <div class="actions"><button class="button main" type="submit">Go on</button></div>
    </form>`;

/** What the person is told of a program on another machine. */
export interface AskingDevice {
  readonly userCode: string;
  readonly program: string;
  readonly address: string;
  readonly secondsAgo: number;
}

/** A program on another machine asks. */
export const allowDeviceView = (device: AskingDevice, email: string): Markup =>
  html`<h1>Sign this machine in?</h1>
    <p>A program asks to act for you, <strong>${email}</strong>, on this hub for 30 days.</p>
    <dl>
      <dt>Code</dt><dd><code>${device.userCode}</code></dd>
      <dt>Program</dt><dd>${device.program}</dd>
      <dt>Asked from</dt><dd>${device.address || "unknown"}</dd>
      <dt>Since</dt><dd>${sinceText(device.secondsAgo)}</dd>
    </dl>
    <p class="quiet small">Allow this only if you see the same code on a machine of yours. Whoever sent you a code or a link
      would be signed in as you.</p>
    ${decision("/device", "user_code", device.userCode)}`;

/** The person has decided. */
export const decidedView = (allowed: boolean): Markup =>
  allowed
    ? html`<h1>Signed in</h1>
    <p class="notice" role="status">The program goes on by itself within a few seconds.</p>
    <p class="quiet">You can close this page.</p>`
    : html`<h1>Denied</h1>
    <p class="notice" role="status">The program was not signed in.</p>
    <p class="quiet">You can close this page.</p>`;

const sinceText = (seconds: number): string => {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} ${whole === 1 ? "second" : "seconds"} ago`;
  const minutes = Math.floor(whole / 60);
  return `${minutes} ${minutes === 1 ? "minute" : "minutes"} ago`;
};
