import { existsSync } from "node:fs";
import type { Browser, Page } from "playwright-core";
import { TestBrowser, type Visit } from "./testBrowser.ts";

/** Somebody at a browser: what they see, and what they do. */
export interface Person {
  open(address: string): Promise<void>;
  /** Follows the link, or presses the button, that says so. */
  click(name: string): Promise<void>;
  /** Writes into the field with this label. */
  fill(label: string, text: string): Promise<void>;
  /** Path and query of the page that is shown. */
  place(): string;
  /** What the page says. */
  text(): Promise<string>;
  /** Cookies that scripts of the page can read. */
  scriptCookies(): Promise<string>;
  close(): Promise<void>;
}

const CHROMIUM_PATHS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/usr/bin/google-chrome-stable",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** Where a Chromium is on this machine; undefined where none is found, or `TEST_BROWSER=reader` wants none. */
export const findChromium = (): string | undefined =>
  process.env.TEST_BROWSER === "reader" ? undefined : CHROMIUM_PATHS.find((path) => existsSync(path));

/** Where people sit: at a Chromium without a screen where there is one, else at a browser that only reads HTML. */
export class Browsers {
  readonly #chromium: Browser | undefined;

  private constructor(browser: Browser | undefined) {
    this.#chromium = browser;
  }

  static async start(): Promise<Browsers> {
    const executablePath = findChromium();
    if (executablePath === undefined) return new Browsers(undefined);
    // Loaded where it is used: it is larger than all else that tests load.
    const { chromium } = await import("playwright-core");
    const args = ["--disable-gpu", "--disable-dev-shm-usage", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])];
    return new Browsers(await chromium.launch({ executablePath, args }));
  }

  /** Somebody who has never been at this hub. */
  async person(hub: string): Promise<Person> {
    return this.#chromium ? new Viewer(await this.#chromium.newPage(), hub) : new Reader(hub);
  }

  async stop(): Promise<void> {
    await this.#chromium?.close();
  }
}

/** Sees pages as Chromium shows them. */
class Viewer implements Person {
  readonly #page: Page;
  readonly #hub: string;

  constructor(page: Page, hub: string) {
    this.#page = page;
    this.#hub = hub;
  }

  async open(address: string): Promise<void> {
    await this.#page.goto(new URL(address, this.#hub).href);
  }

  async click(name: string): Promise<void> {
    const either = this.#page.getByRole("link", { name }).or(this.#page.getByRole("button", { name }));
    await either.first().click();
    await this.#page.waitForLoadState();
  }

  fill(label: string, text: string): Promise<void> {
    return this.#page.getByLabel(label).fill(text);
  }

  place(): string {
    const { pathname, search } = new URL(this.#page.url());
    return pathname + search;
  }

  async text(): Promise<string> {
    return (await this.#page.locator("body").textContent()) ?? "";
  }

  scriptCookies(): Promise<string> {
    return this.#page.evaluate("document.cookie");
  }

  close(): Promise<void> {
    return this.#page.context().close();
  }
}

/** Reads pages as far as these tests need it: links, buttons of forms, labelled fields. */
class Reader implements Person {
  readonly #browser: TestBrowser;
  readonly #filled = new Map<string, string>();
  #visit: Visit | undefined;

  constructor(hub: string) {
    this.#browser = new TestBrowser({ hub, replicas: [{ url: hub }] });
  }

  async open(address: string): Promise<void> {
    this.#filled.clear();
    this.#visit = await this.#browser.open(address);
    await this.#goOn();
  }

  /** Where the page goes on by itself. */
  async #goOn(): Promise<void> {
    const to = /<meta http-equiv="refresh" content="0;url=([^"]*)">/.exec(this.#body)?.[1];
    if (to !== undefined) await this.open(new URL(unescaped(to), this.#shown.url).href);
  }

  async click(name: string): Promise<void> {
    for (const [, href = "", words = ""] of this.#body.matchAll(/<a\b[^>]*?href="([^"]*)"[^>]*>([\s\S]*?)<\/a>/g))
      if (words.includes(name)) return this.open(new URL(unescaped(href), this.#shown.url).href);
    for (const [, head = "", form = ""] of this.#body.matchAll(/<form\b([^>]*)>([\s\S]*?)<\/form>/g))
      for (const [, button = "", words = ""] of form.matchAll(/<button\b([^>]*)>([\s\S]*?)<\/button>/g)) {
        if (!words.includes(name)) continue;
        const pressed = attribute(button, "name");
        const fields = { ...this.#fieldsOf(form), ...(pressed && { [pressed]: attribute(button, "value") ?? "" }) };
        this.#visit =
          attribute(head, "method") === "post"
            ? await this.#browser.submit(attribute(head, "action") ?? "", fields)
            : await this.#browser.open(`${attribute(head, "action") ?? ""}?${new URLSearchParams(fields)}`);
        this.#filled.clear();
        return this.#goOn();
      }
    throw new Error(`nothing says "${name}":\n${this.#body}`);
  }

  async fill(label: string, text: string): Promise<void> {
    for (const [, id = "", words = ""] of this.#body.matchAll(/<label\b[^>]*for="([^"]*)"[^>]*>([^<]*)<\/label>/g))
      if (words.includes(label)) this.#filled.set(id, text);
  }

  place(): string {
    return this.#shown.url.pathname + this.#shown.url.search;
  }

  async text(): Promise<string> {
    return unescaped(this.#body.replace(/<(title|style)\b[\s\S]*?<\/\1>/g, "").replace(/<[^>]*>/g, " "));
  }

  async scriptCookies(): Promise<string> {
    return "";
  }

  async close(): Promise<void> {}

  get #shown(): Visit {
    if (!this.#visit) throw new Error("no page was opened");
    return this.#visit;
  }

  get #body(): string {
    return this.#shown.body;
  }

  #fieldsOf(form: string): Record<string, string> {
    const fields: Record<string, string> = {};
    for (const [, input = ""] of form.matchAll(/<input\b([^>]*)>/g)) {
      const name = attribute(input, "name");
      if (name !== undefined)
        fields[name] = this.#filled.get(attribute(input, "id") ?? "") ?? attribute(input, "value") ?? "";
    }
    return fields;
  }
}

const attribute = (tag: string, name: string): string | undefined => {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1];
  return value === undefined ? undefined : unescaped(value);
};

const unescaped = (text: string): string =>
  text
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
