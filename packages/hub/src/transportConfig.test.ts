import { expect, test } from "@jest/globals";
import { loadHubConfig } from "./config.ts";

const env = (more: Readonly<Record<string, string>>) => ({
  DATABASE_URL: "postgres://h/d",
  ROOTSTOCK_SECRET: "s".repeat(32),
  ...more,
});
const transport = (more: Readonly<Record<string, string>>) => loadHubConfig(env(more)).transport;

test("without a mode agents get no transport token", () => {
  expect(transport({})).toBeUndefined();
  expect(transport({ ROOTSTOCK_TRANSPORT_MODE: "none" })).toBeUndefined();
});

test("what is missing fails the start with the variable's name (spec/03 1.6)", () => {
  const account = { ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT: "agents@p.iam.gserviceaccount.com" };
  const here = { ROOTSTOCK_PUBLIC_URL: "https://hub.example.org/" };
  const refused = [
    [{ ROOTSTOCK_TRANSPORT_MODE: "iap", ...account, ...here }, "ROOTSTOCK_TRANSPORT_AUDIENCE"],
    [{ ROOTSTOCK_TRANSPORT_MODE: "iap", ROOTSTOCK_TRANSPORT_AUDIENCE: "x" }, "ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT"],
    [{ ROOTSTOCK_TRANSPORT_MODE: "cloudrun_invoker", ...account }, "ROOTSTOCK_PUBLIC_URL"],
    [{ ROOTSTOCK_TRANSPORT_MODE: "cloudrun_invoker", ...here }, "ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT"],
    [{ ROOTSTOCK_TRANSPORT_MODE: "local" }, "ROOTSTOCK_TRANSPORT_AUDIENCE"],
    [{ ROOTSTOCK_TRANSPORT_MODE: "other" }, "ROOTSTOCK_TRANSPORT_MODE"],
    [{ ROOTSTOCK_TRANSPORT_MODE: "local", ...here, ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT: "x" }, "SERVICE_ACCOUNT"],
  ] as const;
  for (const [more, name] of refused) expect(() => transport(more)).toThrow(name);
  expect(transport({ ROOTSTOCK_TRANSPORT_MODE: "cloudrun_invoker", ...account, ...here })).toMatchObject({
    issuer: "google",
    audience: "https://hub.example.org",
    serviceAccount: "agents@p.iam.gserviceaccount.com",
    iamUrl: "https://iamcredentials.googleapis.com",
  });
  expect(transport({ ROOTSTOCK_TRANSPORT_MODE: "local", ...here })).toMatchObject({ issuer: "local" });
});
