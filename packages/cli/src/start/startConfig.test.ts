import { expect, test } from "@jest/globals";
import { loadStartConfig } from "./startConfig.ts";

test("nothing set gives three replicas behind port 8787 and a place that the user owns", () => {
  expect(loadStartConfig({ HOME: "/home/u" }, false)).toEqual({
    port: 8787,
    dataRoot: "/home/u/.local/share/rootstock",
    replicas: 3,
    localRuntimeBroker: true,
    devToken: undefined,
    logLevel: "info",
  });
  expect(loadStartConfig({ HOME: "/home/u", XDG_DATA_HOME: "/x" }, false).dataRoot).toBe("/x/rootstock");
  // PostgreSQL's user cannot enter root's home.
  expect(loadStartConfig({ HOME: "/root" }, true).dataRoot).toBe("/var/lib/rootstock");
});

test("every wrong value is named", () => {
  const env = {
    ROOTSTOCK_PORT: "70000",
    ROOTSTOCK_REPLICAS: "0",
    ROOTSTOCK_LOCAL_RUNTIME_BROKER: "maybe",
    ROOTSTOCK_LOG_LEVEL: "loud",
    SCION_DEV_TOKEN: "short",
  };
  let message = "";
  try {
    loadStartConfig(env, false);
  } catch (err) {
    message = String(err);
  }
  for (const name of Object.keys(env)) expect(message).toContain(name);
  // A token is a secret, even a refused one.
  expect(message).not.toContain("short");
});
