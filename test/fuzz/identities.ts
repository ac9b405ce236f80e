import { AGENT_TOKEN_HEADER, AgentTokens } from "@rootstock/hub";
import { signatureHeaders } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { api, foreignUserToken, TEST_SECRET, testLogin } from "@rootstock/testkit";
import type { World } from "../matrix/world.ts";
import type { Machines } from "./machines.ts";

/** A kind of principal, as the proxy plays it. */
export interface Identity {
  /** What it shows with a request. Undefined: whatever the fuzzer has made up. */
  readonly headers?: (sent: Sent) => Promise<Readonly<Record<string, string>>>;
  /** Its credential was refused: it may get another. */
  readonly refused?: () => Promise<void>;
  /** Who it is, if a person or an agent. */
  readonly userId?: string;
  readonly agentId?: string;
  /** What the person begins with; undefined for who is none. */
  readonly token?: string;
}

interface Sent {
  readonly method: string;
  /** Path and query as they are sent. */
  readonly target: string;
  readonly body: Buffer;
}

export const KINDS = [
  "nobody",
  "viewer",
  "member",
  "owner",
  "admin",
  "accessToken",
  "agent",
  "runtimeBroker",
  "expired",
] as const;
export type Kind = (typeof KINDS)[number];

const SCOPES = ["project:read", "agent:create", "agent:read", "agent:list", "agent:start", "agent:stop"].concat([
  "agent:delete",
  "agent:message",
  "agent:attach",
]);
const AGENT_SCOPES = ["agent:status:update", "agent:token:refresh", "project:agent:notify"].concat([
  "project:agent:create",
  "project:agent:lifecycle",
]);

const PEOPLE = { viewer: "val", member: "mel", owner: "olga", admin: "hugo" } as const;
const ROLES = { viewer: "viewer", member: "member", owner: "member", admin: "admin" } as const;

/** The principal of this kind in this world. */
export const identityOf = async (world: World, kind: Kind, machines: Machines): Promise<Identity> => {
  switch (kind) {
    case "nobody":
      return {};
    case "viewer":
    case "member":
    case "owner":
    case "admin":
      return person(world, kind);
    case "accessToken":
      return bearer(await accessToken(world));
    case "agent":
      return agent(world);
    case "runtimeBroker":
      return runtimeBroker(world, machines);
    case "expired":
      return bearer(await expired(world));
  }
};

const bearer = (token: string): Identity => ({ headers: async () => ({ authorization: `Bearer ${token}` }) });

/** One who signs out, or everywhere, signs in again. */
const person = (world: World, kind: keyof typeof PEOPLE): Identity => {
  const { id: userId, email, accessToken: first } = world.people[PEOPLE[kind]];
  let token = first;
  let renewing: Promise<void> | undefined;
  const renew = async () => {
    const reply = await testLogin(world.replica, { email, role: ROLES[kind] });
    const found = reply.get("accessToken");
    if (typeof found === "string") token = found;
    renewing = undefined;
  };
  return {
    userId,
    token: first,
    headers: async () => ({ authorization: `Bearer ${token}` }),
    refused: () => {
      renewing ??= renew();
      return renewing;
    },
  };
};

const accessToken = async ({ replica, people, projectId }: World): Promise<string> => {
  const body = { name: "fuzz", projectId, scopes: SCOPES };
  return (await api(replica, "POST", "/api/v1/auth/tokens", body, { token: people.olga.accessToken })).text("token");
};

const agent = async ({ agents, scene }: World): Promise<Identity> => {
  const tokens = new AgentTokens([TEST_SECRET], { clock: systemClock, random: systemRandom });
  const { id: agentId, projectId, runId } = agents.scoped;
  const issue = async (tokenVersion: number) =>
    (await tokens.issue({ agentId, projectId, scopes: AGENT_SCOPES, ancestry: [], tokenVersion, runId })).token;
  let token = await issue(1);
  return {
    agentId,
    headers: async () => ({ [AGENT_TOKEN_HEADER]: token }),
    refused: async () => {
      const [row] = await scene.database.query("select token_version, run_id from agents where id = $1", [agentId]);
      if (row && row.run_id === runId) token = await issue(Number(row.token_version));
    },
  };
};

const runtimeBroker = ({ runtimeBrokers }: World, machines: Machines): Identity => {
  const { brokerId } = runtimeBrokers.runs;
  return {
    headers: async ({ method, target, body }) => {
      const [path = "/", query = ""] = target.split(/\?(.*)/s);
      return signatureHeaders({
        method,
        path: signable(path),
        query,
        body,
        brokerId,
        secret: Buffer.from(machines.secretOf(brokerId), "base64"),
        now: systemClock.now(),
        nonce: systemRandom.bytes(16),
      });
    },
  };
};

/** A path is signed decoded, once; one that cannot be decoded, as it is. */
const signable = (path: string): string => {
  try {
    decodeURIComponent(path);
    return path;
  } catch {
    return path.replaceAll("%", "%25");
  }
};

const expired = ({ people }: World): Promise<string> => {
  const now = Math.floor(systemClock.now() / 1000);
  const { id, email } = people.olga;
  const times = { iat: now - 7_200, nbf: now - 7_200, exp: now - 3_600 };
  return foreignUserToken({ sub: id, uid: id, email, type: "access", client: "web", role: "member", ...times });
};
