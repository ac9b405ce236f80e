/** What the hub shows in a browser: its pages, and signing in and out. */
export { type AccountPageDeps, accountPages } from "./accountPages.ts";
export * from "./browserUser.ts";
export { asPage, errorPage, FORM_BYTES, formOf, type Markup, pageReply, wantsHtml } from "./html.ts";
export { type PageDeps, pageRoutes } from "./pageRoutes.ts";
export { DEVICE_PAGE, LOGIN_REQUEST_PAGE, type ProgramPageDeps, programPages } from "./programPages.ts";
export { type SignInRouteDeps, signInRoutes } from "./signInRoutes.ts";
