import { expect, test } from "@jest/globals";
import { createLog, plainLog } from "./log.ts";

const lines: string[] = [];
const log = createLog({ level: "trace", destination: { write: (line: string) => void lines.push(line) } });
const said = (fields: object): string => {
  lines.length = 0;
  log.info(fields, "said");
  return lines.join("");
};
const SECRET = "s3cr3t-s3cr3t-s3cr3t";

test.each([
  "authorization",
  "cookie",
  "set-cookie",
  "x-scion-agent-token",
  "x-scion-signature",
  "x-goog-iap-jwt-assertion",
  "token",
  "accessToken",
  "refreshToken",
  "deviceCode",
  "inviteCode",
  "clientSecret",
  "joinToken",
  "password",
  "databaseUrl",
])("the value of %s never reaches a line, whoever logs what holds it", (name) => {
  for (const fields of [{ [name]: SECRET }, { headers: { [name]: SECRET } }]) {
    const line = said(fields);
    expect(line).not.toContain(SECRET);
    expect(line).toContain("[redacted]");
  }
});

test("a row that the database refused is not quoted, and what a refusal is about is", () => {
  const failure = (detail: string) => Object.assign(new Error("refused"), { code: "23514", detail });
  expect(said({ err: failure(`Failing row contains (1, ${SECRET})`) })).not.toContain(SECRET);
  expect(said({ err: failure("Key (slug)=(demo) already exists.") })).toContain("Key (slug)=(demo)");
  expect(said({ err: failure("x") })).toContain("refused");
  expect(said({ err: "no error at all" })).toContain("no error at all");
});

test("a plain logger says what it is given", () => {
  lines.length = 0;
  plainLog(log).info({ token: "shown" }, "said");
  expect(lines.join("")).toContain("shown");
});
