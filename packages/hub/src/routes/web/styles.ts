import { createHash } from "node:crypto";

/** The one style sheet of the hub's own pages; light and dark as the reader has it. */
export const STYLES = `:root {
  color-scheme: light dark;
  --ground: #f4f5f1;
  --card: #ffffff;
  --ink: #1c2319;
  --quiet: #5a6455;
  --line: #d9ddd3;
  --accent: #2f6b3a;
  --accent-ink: #ffffff;
  --accent-over: #265930;
  --alert: #8c1d18;
  --alert-ground: #fbeceb;
  --notice: #24502c;
  --notice-ground: #e8f2e9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12160f;
    --card: #1b2118;
    --ink: #e8ece4;
    --quiet: #a3ad9c;
    --line: #343d2f;
    --accent: #8ccf97;
    --accent-ink: #0e1a10;
    --accent-over: #a5dcae;
    --alert: #ffb4ab;
    --alert-ground: #3a1816;
    --notice: #b5e0bc;
    --notice-ground: #1b2f1e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0;
  min-height: 100vh;
  min-height: 100dvh;
  display: grid;
  place-items: center;
  padding: 1.5rem 1rem;
  background: var(--ground);
  color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
main { width: 100%; max-width: 26rem; }
.brand {
  display: flex;
  align-items: center;
  justify-content: center;
  gap: .6rem;
  margin: 0 0 1.25rem;
  font-weight: 650;
  font-size: 1.15rem;
  letter-spacing: .01em;
}
.brand svg { width: 1.9rem; height: 1.9rem; color: var(--accent); }
.card {
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 14px;
  padding: 1.75rem;
  box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 8px 24px rgb(0 0 0 / .06);
}
h1 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 .35rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .35rem; }
p { margin: 0 0 1rem; }
p:last-child { margin-bottom: 0; }
.quiet { color: var(--quiet); }
.small { font-size: .875rem; }
.actions { display: grid; gap: .65rem; margin: 1.25rem 0 0; }
.actions form { display: grid; }
.button {
  display: block;
  width: 100%;
  padding: .7rem 1rem;
  border: 1px solid var(--line);
  border-radius: 9px;
  background: transparent;
  color: inherit;
  font: inherit;
  font-weight: 550;
  text-align: center;
  text-decoration: none;
  cursor: pointer;
}
.button:hover { border-color: var(--accent); color: var(--accent); }
.button.main { background: var(--accent); border-color: var(--accent); color: var(--accent-ink); }
.button.main:hover { background: var(--accent-over); border-color: var(--accent-over); color: var(--accent-ink); }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.alert, .notice { border-radius: 9px; padding: .75rem .9rem; margin: 0 0 1.1rem; }
.alert { background: var(--alert-ground); color: var(--alert); }
.notice { background: var(--notice-ground); color: var(--notice); }
.alert strong { display: block; }
label { display: block; font-weight: 550; margin: 0 0 .3rem; }
input[type="text"], input[type="password"] {
  width: 100%;
  padding: .6rem .7rem;
  margin: 0 0 .75rem;
  border: 1px solid var(--line);
  border-radius: 9px;
  background: var(--ground);
  color: inherit;
  font: inherit;
}
details { margin: 1.25rem 0 0; border-top: 1px solid var(--line); padding-top: 1rem; }
summary { cursor: pointer; color: var(--quiet); }
details form { margin-top: .9rem; }
code {
  font: .875em ui-monospace, SFMono-Regular, Menlo, "Liberation Mono", monospace;
  background: var(--ground);
  border-radius: 5px;
  padding: .1em .35em;
  overflow-wrap: anywhere;
}
pre { margin: 0 0 1rem; padding: .6rem .75rem; border-radius: 9px; background: var(--ground); white-space: pre-wrap; }
pre code { padding: 0; background: none; }
.small + h1 { margin-top: -.9rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1rem; margin: 1rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.2rem; }
.sign-ins { list-style: none; padding: 0; }
.sign-ins li {
  display: flex;
  align-items: center;
  justify-content: space-between;
  gap: 1rem;
  padding: .8rem 0;
  border-top: 1px solid var(--line);
}
.sign-ins li:last-child { border-bottom: 1px solid var(--line); }
.sign-ins span { display: block; overflow-wrap: anywhere; }
.sign-ins time { white-space: nowrap; }
.sign-ins .button { width: auto; padding: .45rem .8rem; }
.sign-ins + p { margin-top: .75rem; }
footer { margin: 1.1rem 0 0; text-align: center; color: var(--quiet); font-size: .8125rem; }
`;

/** The mark of the hub: a scion grafted onto a rootstock. */
export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke="#3f8a4d" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round"><path d="M16 29V17"/><path d="M16 17l-5-4M16 17l5-4"/><path d="M11 13c-4 0-6-2.500-6-6.500 4 0 6 2.500 6 6.500z"/><path d="M21 13c4 0 6-2.500 6-6.500-4 0-6 2.500-6 6.500z"/><path d="M16 12V4"/><path d="M10 29c2.500-.5 4.500-2 6-5 1.500 3 3.500 4.500 6 5"/></svg>`;

const versionOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 12);

/** Where the style sheet is; another address for another text, so that caches need not ask again. */
export const STYLES_PATH = `/assets/site.css?v=${versionOf(STYLES)}`;
export const ICON_PATH = `/assets/icon.svg?v=${versionOf(ICON)}`;
