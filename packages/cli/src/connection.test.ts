import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { findConnection, writeConnection } from "./connection.ts";
import { CliError, UsageError } from "./exitCodes.ts";
import { dataDirectory } from "./start/dataDirectory.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "rootstock-connection-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const local = { url: "http://127.0.0.1:8787", token: "kept" };
const running = () => writeConnection(dataDirectory(root).connection, local);

test("the running cluster of this machine needs no configuration, and its file is private", () => {
  running();
  expect(findConnection({ ROOTSTOCK_DATA: root }, false)).toEqual(local);
  expect(statSync(dataDirectory(root).connection).mode & 0o777).toBe(0o600);
});

test("it is found in the default place, too", () => {
  const place = join(root, "rootstock");
  mkdirSync(place);
  writeConnection(dataDirectory(place).connection, local);
  expect(findConnection({ XDG_DATA_HOME: root }, false)).toEqual(local);
});

test("a named hub is used, with the token given", () => {
  running();
  const env = { ROOTSTOCK_DATA: root, SCION_HUB_ENDPOINT: "https://hub.example.org", SCION_DEV_TOKEN: "t" };
  expect(findConnection(env, false)).toEqual({ url: "https://hub.example.org", token: "t" });
  expect(findConnection({ ...env, ROOTSTOCK_HUB_URL: "http://h:1" }, false).url).toBe("http://h:1");
});

test("the local token is never sent to another hub", () => {
  running();
  const env = { ROOTSTOCK_DATA: root, ROOTSTOCK_HUB_URL: "https://hub.example.org" };
  expect(() => findConnection(env, false)).toThrow("no token for https://hub.example.org");
  const here = { ...env, ROOTSTOCK_HUB_URL: "http://127.0.0.1:8787/" };
  expect(findConnection(here, false)).toMatchObject({ token: "kept" });
});

test("nothing running and nothing named says what to do", () => {
  expect(() => findConnection({ ROOTSTOCK_DATA: root }, false)).toThrow(CliError);
  expect(() => findConnection({ ROOTSTOCK_DATA: root }, false)).toThrow("npm start");
  expect(() => findConnection({ ROOTSTOCK_DATA: root, ROOTSTOCK_HUB_URL: "hub:1" }, false)).toThrow(UsageError);
});
