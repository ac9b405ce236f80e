import { hostname } from "node:os";
import { Backoff, type Base } from "@rootstock/service";
import { z } from "zod";
import type { Profile } from "../agents/agentView.ts";
import { VERSION } from "../version.ts";
import { type Credentials, type CredentialsStore, hashJoinToken } from "./credentials.ts";

/** How long a start waits for a hub that does not answer yet, in milliseconds. */
const PATIENCE_MS = 60_000;
const REQUEST_TIMEOUT_MS = 30_000;

const joinAnswer = z.object({ secretKey: z.base64(), brokerId: z.string() });
const errorAnswer = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** The hub refused the join token: only a person can mend that. */
export class JoinRefused extends Error {
  override readonly name = "JoinRefused";
}

export interface JoinParams {
  readonly hubUrl: string;
  readonly joinToken: string;
  readonly brokerId: string;
  readonly profiles: readonly Profile[];
}

/** One `POST /api/v1/brokers/join` (spec/01 1.3). @throws JoinRefused for a 4xx answer */
const joinOnce = async (p: JoinParams, signal: AbortSignal): Promise<Credentials> => {
  const response = await fetch(new URL("/api/v1/brokers/join", p.hubUrl), {
    method: "POST",
    redirect: "error",
    signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      brokerId: p.brokerId,
      joinToken: p.joinToken,
      hostname: hostname(),
      version: VERSION,
      capabilities: ["attach"],
      profiles: p.profiles,
    }),
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (response.status >= 400 && response.status < 500 && response.status !== 429) {
    const refusal = errorAnswer.safeParse(body);
    const reason = refusal.success ? `${refusal.data.error.code}: ${refusal.data.error.message}` : `${response.status}`;
    throw new JoinRefused(`the hub refused to let this runtime broker join (${reason})`);
  }
  if (!response.ok) throw new Error(`the hub answered ${response.status} to the join`);
  const answer = joinAnswer.parse(body);
  return {
    brokerId: answer.brokerId,
    secret: Buffer.from(answer.secretKey, "base64"),
    // The endpoint that was dialled, not the one in the answer: that one may be an address of the inside (spec/01 1.3).
    hubUrl: p.hubUrl,
    joinTokenHash: hashJoinToken(p.joinToken),
  };
};

/**
 * Joins and stores the credentials. A hub that is not up yet is waited for.
 * @throws JoinRefused when the hub says no; Error when it does not answer within a minute
 */
export const joinHub = async (
  base: Base,
  store: CredentialsStore,
  p: JoinParams,
  signal: AbortSignal,
): Promise<Credentials> => {
  const backoff = new Backoff({ firstMs: 250, maxMs: 5_000 }, base.random);
  const giveUpAt = base.clock.elapsed() + PATIENCE_MS;
  for (;;) {
    try {
      const credentials = await joinOnce(p, signal);
      await store.write(credentials, base.clock.now());
      base.log.info({ brokerId: credentials.brokerId, hubUrl: p.hubUrl }, "joined the hub");
      return credentials;
    } catch (err) {
      if (err instanceof JoinRefused || signal.aborted || base.clock.elapsed() >= giveUpAt) throw err;
      base.log.warn({ err, hubUrl: p.hubUrl }, "join failed, trying again");
      await base.clock.sleep(backoff.next(), signal);
    }
  }
};
