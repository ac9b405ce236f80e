import { expect, test } from "@jest/globals";
import { canonicalText, encodeNonce, signRequest, verifySignature } from "./signature.ts";

const secret = Buffer.from("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "base64");
const stamp = { timestamp: "1750000000", nonce: encodeNonce(Buffer.from("AAECAwQFBgcICQoLDA0ODw==", "base64")) };
const heartbeat = {
  ...stamp,
  method: "POST",
  path: "/api/v1/runtime-brokers/11111111-2222-4333-8444-555555555555/heartbeat",
  query: "",
  body: Buffer.from('{"status":"online"}'),
};

test("signs a request with a body as the specification's vector says", () => {
  expect(signRequest(secret, heartbeat)).toBe("tHpToURw+9DZc0g+vQrAQa4A+5urXAxgjWfsDU/VKyM=");
});

test("signs a request without a body as the specification's vector says", () => {
  const upgrade = {
    ...stamp,
    method: "GET",
    path: "/api/v1/runtime-brokers/connect",
    query: "",
    body: Buffer.alloc(0),
  };
  expect(signRequest(secret, upgrade)).toBe("hCxF3vatJ2HjaPAFFQ5w3lvYLF5ibB/Xs3rTclafIZw=");
  expect(canonicalText(upgrade).endsWith(`${stamp.nonce}\n`)).toBe(true);
});

test.each([
  ["method", { method: "PUT" }],
  ["path", { path: "/other" }],
  ["query", { query: "a=1" }],
  ["time", { timestamp: "1750000001" }],
  ["nonce", { nonce: "AAAA" }],
  ["body", { body: Buffer.from('{"status":"offline"}') }],
])("refuses a signature when the %s differs", (_, change) => {
  const signature = signRequest(secret, heartbeat);
  expect(verifySignature(secret, heartbeat, signature)).toBe(true);
  expect(verifySignature(secret, { ...heartbeat, ...change }, signature)).toBe(false);
});
