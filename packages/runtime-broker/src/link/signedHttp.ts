import { signatureHeaders } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { Credentials } from "./credentials.ts";

const TIMEOUT_MS = 30_000;

/** Sends one signed request to the hub (spec/01 2.4) and returns its status. Never retried here. */
export const signedPost = async (
  base: Pick<Base, "clock" | "random">,
  credentials: Credentials,
  path: string,
  body: unknown,
  signal: AbortSignal,
): Promise<number> => {
  const bytes = Buffer.from(JSON.stringify(body));
  const response = await fetch(new URL(path, credentials.hubUrl), {
    method: "POST",
    redirect: "error",
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    headers: {
      "content-type": "application/json",
      ...signatureHeaders({
        brokerId: credentials.brokerId,
        secret: credentials.secret,
        method: "POST",
        path,
        query: "",
        body: bytes,
        now: base.clock.now(),
        nonce: base.random.bytes(16),
      }),
    },
    body: bytes,
  });
  await response.body?.cancel();
  return response.status;
};
