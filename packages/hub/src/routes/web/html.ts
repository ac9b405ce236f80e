import { type ErrorCode, HubError } from "@rootstock/protocol";
import { html } from "hono/html";
import type { Call, Reply } from "../route.ts";
import { HTML, NO_BODY, type Replies } from "../shapes.ts";
import { ICON_PATH, STYLES_PATH } from "./styles.ts";

/** A piece of a page; what stands in it was escaped. */
export type Markup = ReturnType<typeof html>;

/** No scripts at all, nothing from elsewhere, in nobody's frame. */
const contentSecurityPolicy = (formsLeadTo: string | undefined): string =>
  [
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self'",
    `form-action 'self'${formsLeadTo ? ` ${formsLeadTo}` : ""}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; ");

export interface Page {
  readonly title: string;
  /** What stands in the card. */
  readonly content: Markup;
  readonly status?: number;
  readonly cookies?: readonly string[];
  /** The origin that the answer to a form on it may redirect to, besides this one: browsers refuse any other. */
  readonly formsLeadTo?: string;
  /** Where the browser goes on by itself. The page says so too, with a link. */
  readonly forward?: string;
}

const MARK = html`<svg viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M16 29V17"/><path d="M16 17l-5-4M16 17l5-4"/><path d="M11 13c-4 0-6-2.500-6-6.500 4 0 6 2.500 6 6.500z"/><path d="M21 13c4 0 6-2.500 6-6.500-4 0-6 2.500-6 6.500z"/><path d="M16 12V4"/><path d="M10 29c2.500-.5 4.500-2 6-5 1.500 3 3.500 4.500 6 5"/></svg>`;

const goesOn = (to: string | undefined): Markup | "" =>
  to === undefined
    ? ""
    : html`
    <meta http-equiv="refresh" content="0;url=${to}">`;

/** A page of the hub: kept by no cache, without scripts. */
export const pageReply = async ({
  title,
  content,
  status = 200,
  cookies = [],
  formsLeadTo,
  forward,
}: Page): Promise<Reply> => {
  const document = await html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="robots" content="noindex">
    <title>${title} · Rootstock</title>${goesOn(forward)}
    <link rel="stylesheet" href="${STYLES_PATH}">
    <link rel="icon" type="image/svg+xml" href="${ICON_PATH}">
  </head>
  <body>
    <main>
      <p class="brand">${MARK}<span>Rootstock</span></p>
      <div class="card">${content}</div>
    </main>
  </body>
</html>
`;
  const headers = new Headers({
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": contentSecurityPolicy(formsLeadTo),
    // Forms must say where they come from; what an address holds (an invite) is told to no other site.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
  });
  for (const cookie of cookies) headers.append("set-cookie", cookie);
  return new Response(String(document), { status, headers });
};

/** Whether whoever calls is a person who looks at pages. */
export const wantsHtml = (headers: Headers): boolean => headers.get("accept")?.includes("text/html") === true;

/** What a person at a browser is shown of a refusal. */
export const errorPage = async (err: HubError, requestId: string): Promise<Reply> => {
  const reply = await pageReply({
    title: "Not possible",
    status: err.status,
    content: html`<h1>This is not possible</h1>
      <p class="alert" role="alert">${err.message}</p>
      <p class="quiet small">Request ${requestId}</p>
      <div class="actions"><a class="button" href="/">To the start page</a></div>`,
  });
  if (err.retryAfter !== undefined) reply.headers.set("retry-after", String(err.retryAfter));
  return reply;
};

/** A handler of a page: what it refuses is told to a person. */
export const asPage =
  (handler: (call: Call) => Promise<Reply> | Reply) =>
  async (call: Call): Promise<Reply> => {
    try {
      return await handler(call);
    } catch (err) {
      if (!(err instanceof HubError) || !wantsHtml(call.headers)) throw err;
      return errorPage(err, call.requestId);
    }
  };

/** What a page may answer: itself, the way elsewhere, or what it refuses, told to a person. */
export const PAGE_REPLIES = {
  200: HTML,
  302: NO_BODY,
  303: NO_BODY,
  400: HTML,
  401: HTML,
  403: HTML,
  404: HTML,
  409: HTML,
  429: HTML,
  501: HTML,
  503: HTML,
} as const satisfies Replies;

/** What it refuses programs, in the envelope. */
export const PAGE_REFUSES = [
  "unauthorized",
  "session_expired",
  "forbidden",
  "user_suspended",
  "unauthorized_domain",
  "identity_not_linked",
  "not_found",
  "oauth_error",
  "not_implemented",
  "rate_limited",
] as const satisfies readonly ErrorCode[];

/** The fields of a form that was sent. Throws 400 for anything else. */
export const formOf = (call: Pick<Call, "headers" | "rawBody">): URLSearchParams => {
  const type = call.headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  if (type !== FORM && call.rawBody.byteLength > 0) throw new HubError("invalid_request", "a form is expected here");
  return new URLSearchParams(call.rawBody.toString("utf8"));
};

/** The content type of forms. */
export const FORM = "application/x-www-form-urlencoded";

/** The most bytes of a form. */
export const FORM_BYTES = 16_384;
