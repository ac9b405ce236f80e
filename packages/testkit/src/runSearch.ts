import { createReadStream, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { logsIn, SECRET_SHAPES, SHORTEST_SECRET, secretsIn } from "./runRecord.ts";

/** A log line that holds a secret, which is left out of `line`. */
export interface Leak {
  readonly file: string;
  readonly line: string;
}

/** What the run in this directory kept. */
export interface RunRecord {
  readonly secrets: number;
  readonly lines: number;
  readonly leaks: readonly Leak[];
}

/** Every log line of a run that holds a secret which a test of the run noted, or what has the shape of one. */
export const searchRun = async (dir: string): Promise<RunRecord> => {
  const secrets = secretsIn(dir);
  const find = finder(secrets);
  const leaks: Leak[] = [];
  let lines = 0;
  for (const file of filesOf(logsIn(dir))) {
    for await (const line of createInterface({ input: createReadStream(join(logsIn(dir), file)) })) {
      lines += 1;
      const secret = find(line);
      if (secret !== undefined) leaks.push({ file, line: line.replaceAll(secret, "[SECRET]") });
    }
  }
  return { secrets: secrets.size, lines, leaks };
};

const filesOf = (dir: string): readonly string[] => (existsSync(dir) ? readdirSync(dir) : []);

/** So many characters at the end of a long one are looked for first: signed tokens all begin alike. */
const END = 16;
const TOKEN = /[\w+/=.%~-]{16,}/g;
const WORD = /[\w-]+/g;
/** Their letters and digits are none of the word behind them: those of addresses, of JSON, and of either in itself. */
const ESCAPES = /%(?:25)*[\da-f]{2}|\\+(?:u[\da-f]{4}|[bfnrt])/gi;
const isOneWord = (text: string): boolean => /^[\w-]+$/.test(text);

/** How a secret may stand in a log: as it is, in an address, in JSON within JSON, and in a header for two in one. */
const formsOf = (secret: string): readonly string[] => [
  secret,
  encodeURIComponent(secret),
  quoted(secret),
  quoted(quoted(secret)),
  ...(secret.length >= END ? [0, 1, 2].map((before) => inBase64(secret, before)) : []),
];

const quoted = (text: string): string => JSON.stringify(text).slice(1, -1);

/** What the secret alone decides of a text in base64, where so many bytes, or three more, stand before it. */
const inBase64 = (secret: string, before: number): string =>
  Buffer.concat([Buffer.alloc(before), Buffer.from(secret)])
    .toString("base64")
    .slice(before === 0 ? 0 : before + 1, -4);

/**
 * Finds one of thousands of secrets in a line. A short one is found as a whole word only: it may be a part of others by
 * chance. What is no one word (a pass phrase) is looked for as it is.
 */
const finder = (secrets: ReadonlySet<string>): ((line: string) => string | undefined) => {
  const phrases: string[] = [];
  const words = new Set<string>();
  const byEnd = new Map<string, string[]>();
  for (const form of new Set([...secrets].flatMap(formsOf))) {
    if (form.length < END && isOneWord(form)) words.add(form);
    else if (form.match(TOKEN)?.[0] !== form) phrases.push(form);
    else {
      const end = form.slice(-END);
      byEnd.set(end, [...(byEnd.get(end) ?? []), form]);
    }
  }
  return (line) => {
    const phrase = phrases.find((p) => line.includes(p));
    if (phrase !== undefined) return phrase;
    for (const [word] of line.replace(ESCAPES, " ").matchAll(WORD))
      if (word.length >= SHORTEST_SECRET && word.length < END && words.has(word)) return word;
    for (const [word] of line.matchAll(TOKEN))
      for (let i = END; i <= word.length; i += 1) {
        const found = byEnd.get(word.slice(i - END, i))?.find((secret) => line.includes(secret));
        if (found !== undefined) return found;
      }
    return line.match(SECRET_SHAPES)?.[0];
  };
};
