import { createPublicKey } from "node:crypto";
import { expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { calculateJwkThumbprint, createLocalJWKSet, jwtVerify, SignJWT } from "jose";
import { TokenError } from "./jwt.ts";
import { SigningKeys } from "./signingKeys.ts";

const [former, present] = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
const NOW = 1_795_227_448_500;
const clock: Clock = { ...systemClock, now: () => NOW };
const expected = { issuer: "hub", audience: "somebody", typ: "test+jwt" };
const token = (typ = "test+jwt", keys = new SigningKeys([present, former])) =>
  keys.sign(
    new SignJWT()
      .setIssuer("hub")
      .setAudience("somebody")
      .setSubject("x")
      .setExpirationTime(NOW / 1000 + 60),
    typ,
  );

test("whoever reads the published keys verifies a token with any library, found by its kid", async () => {
  const published = createLocalJWKSet({ keys: [...new SigningKeys([present, former]).jwks().keys] });
  for (const keys of [new SigningKeys([present]), new SigningKeys([former])]) {
    const { payload } = await jwtVerify(await token("test+jwt", keys), published, { currentDate: new Date(NOW) });
    expect(payload.sub).toBe("x");
  }
});

test("the keys are the same at every replica, public ones only, first the one that signs, named by their thumbprints", async () => {
  const [first, second] = new SigningKeys([present, former]).jwks().keys;
  expect(new SigningKeys([former, present]).jwks().keys).toEqual([second, first]);
  expect(Object.keys(first ?? {}).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
  for (const jwk of [first, second]) {
    expect(jwk?.kid).toBe(await calculateJwkThumbprint({ ...jwk }));
    expect(createPublicKey({ key: { ...jwk }, format: "jwk" }).asymmetricKeyType).toBe("ed25519");
  }
});

test("a token of another kind, of a key that is gone, or changed in a byte is refused", async () => {
  const keys = new SigningKeys([present, former]);
  expect((await keys.verify(clock, await token(), expected)).sub).toBe("x");
  await expect(keys.verify(clock, await token("other+jwt"), expected)).rejects.toThrow("claim typ refused");
  await expect(new SigningKeys([former]).verify(clock, await token(), expected)).rejects.toThrow(TokenError);
  const [head, body, signature = ""] = (await token()).split(".");
  const changed = Buffer.from(signature, "base64url");
  changed.writeUInt8(changed.readUInt8(5) ^ 1, 5);
  await expect(keys.verify(clock, `${head}.${body}.${changed.toString("base64url")}`, expected)).rejects.toThrow(
    "signature",
  );
});
