import { SIGNATURE_HEADERS } from "@rootstock/protocol";
import { AGENT_TOKEN_HEADER, REPLICA_TOKEN_HEADER, SESSION_COOKIE } from "../../auth/index.ts";
import type { Route } from "../route.ts";
import type { JsonSchema } from "./jsonSchema.ts";

/** How callers prove who they are (spec/03 section 4, spec/01 section 2), as OpenAPI names it. */
export const SECURITY_SCHEMES: Readonly<Record<string, JsonSchema>> = {
  bearer: {
    type: "http",
    scheme: "bearer",
    description:
      "A person's token: of a sign-in, or an access token (`scion_pat_…`) that may do what its scopes and its owner may. Behind a proxy that signs people in, the proxy's assertion takes its place.",
  },
  session: {
    type: "apiKey",
    in: "cookie",
    name: SESSION_COOKIE,
    description: "A browser's session; `__Host-` before its name where TLS is. Other sites' calls with it are refused.",
  },
  agent: {
    type: "apiKey",
    in: "header",
    name: AGENT_TOKEN_HEADER,
    description: "An agent's token; it is understood as a bearer token as well.",
  },
  runtimeBroker: {
    type: "apiKey",
    in: "header",
    name: SIGNATURE_HEADERS.signature,
    description: `A runtime broker's HMAC-SHA256 over method, path, query, body, ${SIGNATURE_HEADERS.timestamp} and ${SIGNATURE_HEADERS.nonce}, with the secret of ${SIGNATURE_HEADERS.brokerId}: those headers belong to it.`,
  },
  replica: {
    type: "apiKey",
    in: "header",
    name: REPLICA_TOKEN_HEADER,
    description: "What replicas show each other.",
  },
};

const USERS = ["bearer", "session"] as const;
const EVERYBODY = [...USERS, "agent", "runtimeBroker"] as const;

const BY_ACCESS: Readonly<Record<string, readonly string[]>> = {
  anyone: [],
  authenticated: EVERYBODY,
  users: USERS,
  admins: USERS,
  "users and agents": [...USERS, "agent"],
  agents: ["agent"],
  "runtime brokers": ["runtimeBroker"],
  "users and runtime brokers": [...USERS, "runtimeBroker"],
  replicas: ["replica"],
  "admins and metrics collectors": USERS,
};

/** What proves enough for the route, each by itself; empty where no credential is needed. */
export const securityOf = ({ access }: Pick<Route, "access">): readonly Readonly<Record<string, readonly string[]>>[] =>
  (BY_ACCESS[access.name] ?? EVERYBODY).map((scheme) => ({ [scheme]: [] }));
