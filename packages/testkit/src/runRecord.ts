import { appendFileSync, createReadStream, createWriteStream, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

/**
 * What the replicas of a whole test run log, and every secret that its tests make or are given: at the end no line may
 * hold one. Kept in `TEST_RUN_DIRECTORY`; without it, outside of a test run, nothing is kept.
 */

const SECRETS_FILE = "secrets.jsonl";
const LOGS = "logs";
/** Shorter ones would be found where nobody put them. */
const MIN_CHARACTERS = 16;

const SECRET_FIELDS = /"(\w*(?:token|Token|TOKEN)|secretKey|API_KEY)":"([^"\\]{16,})"/g;
/** What is a secret wherever it stands: tokens by their prefixes, and signed ones. */
const SECRET_SHAPES = /scion_(?:dev|pat|inv|join)_[\w=-]{24,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{20,}/g;

const directory = (): string | undefined => process.env.TEST_RUN_DIRECTORY;

/** Remembers secrets that no log line of the run may hold. */
export const noteSecrets = (...secrets: readonly (string | undefined)[]): void => {
  const dir = directory();
  const kept = secrets.filter((s): s is string => s !== undefined && s.length >= MIN_CHARACTERS);
  if (!dir || kept.length === 0) return;
  appendFileSync(join(dir, SECRETS_FILE), kept.map((s) => `${JSON.stringify(s)}\n`).join(""));
};

/** Remembers the secrets in what a replica answered or sent: a text, or anything that JSON can say. */
export const noteSecretsIn = (sent: unknown): void => {
  if (!directory()) return;
  const text = typeof sent === "string" ? sent : JSON.stringify(sent ?? null);
  noteSecrets(...[...text.matchAll(SECRET_FIELDS)].map((m) => m[2]), ...(text.match(SECRET_SHAPES) ?? []));
};

/**
 * Remembers the secrets in what a test sends. Tests send a good deal of rubbish as well, so that a secret is only what has
 * the shape of one, and what a body gives an agent's environment.
 */
export const noteSecretsSent = (headers: Readonly<Record<string, string>>, body: unknown): void => {
  if (!directory()) return;
  const payload = typeof body === "string" ? body : JSON.stringify(body ?? null);
  noteSecrets(...(`${Object.values(headers).join(" ")} ${payload}`.match(SECRET_SHAPES) ?? []), ...givenIn(body));
};

/** Remembers the cookies that an answer sets. */
export const noteCookies = (answer: Headers): void =>
  noteSecrets(...answer.getSetCookie().map((line) => /=([^;]*)/.exec(line)?.[1]));

/** Texts in an `env`, wherever it stands. */
const givenIn = (body: unknown): readonly string[] => {
  if (typeof body !== "object" || body === null) return [];
  return Object.entries(body).flatMap(([key, value]) =>
    key === "env" && typeof value === "object" && value !== null
      ? Object.values(value).filter((given): given is string => typeof given === "string")
      : givenIn(value),
  );
};

/** Where a replica's log lines go, besides; undefined outside of a test run. */
export const recordLog = (
  name: string,
): { readonly write: (line: string) => void; readonly end: () => Promise<void> } | undefined => {
  const dir = directory();
  if (!dir) return undefined;
  mkdirSync(join(dir, LOGS), { recursive: true });
  const file = `${process.pid}-${process.hrtime.bigint()}-${name.replace(/[^\w-]/g, "_")}.log`;
  const stream = createWriteStream(join(dir, LOGS, file));
  return {
    write: (line) => void stream.write(line.endsWith("\n") ? line : `${line}\n`),
    end: () => new Promise((resolve) => stream.end(() => resolve())),
  };
};

const FAULTS_FILE = "faults.jsonl";

/** Remembers what fails the whole run, whoever looks at the answer. */
export const noteFault = (fault: string): void => {
  const dir = directory();
  if (dir) appendFileSync(join(dir, FAULTS_FILE), `${JSON.stringify(fault)}\n`);
};

/** The faults that the run in this directory noted, each once. */
export const faultsIn = (dir: string): readonly string[] => {
  try {
    const lines = readFileSync(join(dir, FAULTS_FILE), "utf8").split("\n");
    return [...new Set(lines.flatMap((line) => (line === "" ? [] : [String(JSON.parse(line))])))];
  } catch {
    return [];
  }
};

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

/** Every log line of a run that holds a secret which a test of the run noted. */
export const searchRun = async (dir: string): Promise<RunRecord> => {
  const find = finder(notedIn(dir));
  const leaks: Leak[] = [];
  let lines = 0;
  for (const file of filesOf(join(dir, LOGS))) {
    for await (const line of createInterface({ input: createReadStream(join(dir, LOGS, file)) })) {
      lines += 1;
      const secret = find(line);
      if (secret !== undefined) leaks.push({ file, line: line.replaceAll(secret, "[SECRET]") });
    }
  }
  return { secrets: notedIn(dir).size, lines, leaks };
};

const filesOf = (dir: string): readonly string[] => {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
};

const notedIn = (dir: string): ReadonlySet<string> => {
  try {
    const text = readFileSync(join(dir, SECRETS_FILE), "utf8");
    return new Set(text.split("\n").flatMap((line) => (line === "" ? [] : [String(JSON.parse(line))])));
  } catch {
    return new Set();
  }
};

const TOKEN = /[\w+/=.-]{16,}/g;

/**
 * Finds one of thousands of secrets in a line. By their last characters: signed tokens all begin alike. What is no one
 * word (a pass phrase) is looked for as it is.
 */
const finder = (secrets: ReadonlySet<string>): ((line: string) => string | undefined) => {
  const phrases: string[] = [];
  const byEnd = new Map<string, string[]>();
  for (const secret of secrets) {
    if (secret.match(TOKEN)?.[0] !== secret) phrases.push(secret);
    else {
      const end = secret.slice(-MIN_CHARACTERS);
      byEnd.set(end, [...(byEnd.get(end) ?? []), secret]);
    }
  }
  return (line) => {
    const phrase = phrases.find((p) => line.includes(p));
    if (phrase !== undefined) return phrase;
    for (const [word] of line.matchAll(TOKEN))
      for (let i = MIN_CHARACTERS; i <= word.length; i += 1) {
        const found = byEnd.get(word.slice(i - MIN_CHARACTERS, i))?.find((secret) => line.includes(secret));
        if (found !== undefined) return found;
      }
    return undefined;
  };
};
