import { appendFileSync, createWriteStream, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * What all processes of a whole test run log, and every secret that its tests make or are given: at the end no line may
 * hold one. Kept in `TEST_RUN_DIRECTORY`; without it, outside of a test run, nothing is kept.
 */

const SECRETS_FILE = "secrets.jsonl";
const LOGS = "logs";
/** A shorter one would be found where nobody put it. */
export const SHORTEST_SECRET = 8;

/** Fields of bodies, and parameters of addresses, whose values let somebody in. */
const SECRET_NAMES = String.raw`\w*(?:token|Token|TOKEN)|secretKey|API_KEY|(?:device|user|invite)_?[cC]ode|code_?[vV]erifier|client_?[sS]ecret|password|ticket|nonce`;
const SECRET_FIELDS = new RegExp(String.raw`"(${SECRET_NAMES})"\s*:\s*"((?:[^"\\]|\\.)+)"`, "g");
const SECRET_PARAMETERS = new RegExp(String.raw`[?&](?:${SECRET_NAMES}|code|state|request)=([^&\s"'<>]+)`, "g");
/** What is a secret wherever it stands: tokens by their prefixes, and signed ones. */
export const SECRET_SHAPES =
  /(?<![\w-])(?:scion_(?:dev|pat|inv|join)_[\w=+/-]{24,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,})/g;
/** What an agent's environment says of the agent itself. */
const NO_SECRET = /^(?:PATH|HOME|TERM|LANG|(?:SCION|ROOTSTOCK)_(?!\w*(?:TOKEN|SECRET|KEY|PASSWORD))\w*)$/;

const directory = (): string | undefined => process.env.TEST_RUN_DIRECTORY;

const isGiven = (secret: unknown): secret is string => typeof secret === "string" && secret !== "";
const isLong = (secret: string): boolean => secret.length >= SHORTEST_SECRET;

/**
 * Remembers secrets that no log line of the run may hold. Throws for one that is too short to be told from other words: a
 * test makes its own ones longer.
 */
export const noteSecrets = (...secrets: readonly (string | null | undefined)[]): void => {
  const dir = directory();
  if (!dir) return;
  const given = secrets.filter(isGiven);
  const short = given.find((secret) => !isLong(secret));
  if (short !== undefined)
    throw new Error(
      `"${short}" cannot be searched for in the logs: a secret that a test gives has ${SHORTEST_SECRET} characters`,
    );
  if (given.length > 0) appendFileSync(join(dir, SECRETS_FILE), given.map((s) => `${JSON.stringify(s)}\n`).join(""));
};

/** Remembers the secrets in what a replica answered or sent: a text, an address, or anything that JSON can say. */
export const noteSecretsIn = (sent: unknown): void => {
  if (!directory()) return;
  const text = typeof sent === "string" ? sent : JSON.stringify(sent ?? null);
  const fields = [...text.matchAll(SECRET_FIELDS)].map(
    ([, name, value]) => [name, String(JSON.parse(`"${value}"`))] as const,
  );
  const parameters = [...text.matchAll(SECRET_PARAMETERS)].map(([, value = ""]) => decoded(value));
  noteSecrets(...fields.map(([, value]) => value), ...parameters, ...(text.match(SECRET_SHAPES) ?? []));
  for (const [name, value] of fields)
    if (name === "secretKey") {
      const bytes = Buffer.from(value, "base64");
      noteSecrets(bytes.toString("hex"), bytes.toString("base64url"));
    }
};

const decoded = (parameter: string): string => {
  try {
    return decodeURIComponent(parameter);
  } catch {
    return parameter;
  }
};

/**
 * Remembers the secrets in what a test sends. Tests send a good deal of rubbish as well, so that a secret is only what has
 * the shape of one, and what a body gives an agent's environment.
 */
export const noteSecretsSent = (headers: Readonly<Record<string, string>>, body: unknown): void => {
  if (!directory()) return;
  const payload = typeof body === "string" ? body : JSON.stringify(body ?? null);
  const shapes = `${Object.values(headers).join(" ")} ${payload}`.match(SECRET_SHAPES) ?? [];
  noteSecrets(...shapes, ...givenIn(body).filter(isLong));
};

/** Remembers what a body gives an agent's environment, when whoever got it has taken it. Throws for what is too short. */
export const noteSecretsTaken = (body: unknown): void => {
  if (directory()) noteSecrets(...givenIn(body).filter((given) => !isLong(given)));
};

/** Remembers what a body gives an agent's environment. Throws for what is too short. */
export const noteSecretsGiven = (body: unknown): void => {
  if (directory()) noteSecrets(...givenIn(body));
};

/** Remembers the cookies that an answer sets, and what its redirection carries. */
export const noteAnswerHeaders = (answer: Headers): void => {
  noteSecrets(...answer.getSetCookie().map((line) => /=([^;]*)/.exec(line)?.[1]));
  const location = answer.get("location");
  if (location !== null) noteSecretsIn(location);
};

/** Remembers what the environment of a process of ours holds: secrets by their names, passwords in addresses. */
export const noteSecretsOfEnvironment = (env: Readonly<Record<string, string | undefined>>): void => {
  if (!directory()) return;
  const given = passwordOf(process.env.TEST_DATABASE_URL);
  for (const [name, value = ""] of Object.entries(env)) {
    if (/SECRET|TOKEN|PASSWORD|API_KEY/.test(name))
      noteSecrets(value, ...(/SECRET/.test(name) ? value.split(",") : []));
    // That of a server which the run did not make is none that it made.
    const password = passwordOf(value);
    if (password !== given) noteSecrets(password);
  }
};

/** The password in an address; undefined where there is none. */
export const passwordOf = (address: string | undefined): string | undefined =>
  address?.includes("://") && URL.canParse(address) ? decoded(new URL(address).password) : undefined;

/** Texts in an `env`, wherever it stands, but for what names the agent. */
const givenIn = (body: unknown): readonly string[] => {
  if (typeof body !== "object" || body === null) return [];
  // Secrets that a machine is sent by their names: `{ name, type, target, value }`.
  if ("target" in body && "value" in body && isGiven(body.value)) return [body.value];
  return Object.entries(body).flatMap(([key, value]) =>
    ["env", "resolvedEnv"].includes(key) && typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([name, given]) => (isGiven(given) && !NO_SECRET.test(name) ? given : []))
      : givenIn(value),
  );
};

/** The file of this name among the logs of the run; undefined outside of a test run. */
export const logFile = (name: string): string | undefined => {
  const dir = directory();
  if (!dir) return undefined;
  mkdirSync(join(dir, LOGS), { recursive: true });
  return join(dir, LOGS, `${process.pid}-${name.replace(/[^\w-]/g, "_")}.log`);
};

/** Where the log lines of a process or a part of one go, besides; undefined outside of a test run. */
export const recordLog = (
  name: string,
): { readonly write: (line: string) => void; readonly end: () => Promise<void> } | undefined => {
  const file = logFile(`${name}-${process.hrtime.bigint()}`);
  if (file === undefined) return undefined;
  const stream = createWriteStream(file);
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
export const faultsIn = (dir: string): readonly string[] => [...linesOf(join(dir, FAULTS_FILE))];

/** The secrets that the run in this directory noted, each once. */
export const secretsIn = (dir: string): ReadonlySet<string> => linesOf(join(dir, SECRETS_FILE));

/** Where the run in this directory keeps its logs. */
export const logsIn = (dir: string): string => join(dir, LOGS);

/** Nothing where there is no such file. Throws for one that cannot be read: what it holds would not be looked for. */
const linesOf = (file: string): ReadonlySet<string> => {
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  return new Set(lines.flatMap((line) => (line === "" ? [] : [String(JSON.parse(line))])));
};
