import type { Setting } from "./flags.ts";
import { SIGN_IN_SETTINGS } from "./signInSettings.ts";
import { TRANSPORT_SETTINGS } from "./transportSettings.ts";

/** Every setting of every command: its flag, its variable, its meaning. The parts that use them parse and check them. */

const LOG_LEVEL: Setting = {
  flag: "--log-level <level>",
  env: "ROOTSTOCK_LOG_LEVEL",
  description: "trace, debug, info, warn, error or silent",
  defaultText: "info",
};

const DATABASE_DIRECT_URL: Setting = {
  flag: "--database-direct-url <url>",
  env: "DATABASE_DIRECT_URL",
  description: "the same database without a pooling proxy, for signals, locks and migrations",
  defaultText: "DATABASE_URL",
  secret: true,
};

const DATABASE_URL: Setting = {
  flag: "--database-url <url>",
  env: "DATABASE_URL",
  description: "PostgreSQL, as postgres://user:password@host:port/database",
  secret: true,
};

const SECRET: Setting = {
  flag: "--secret <text>",
  env: "ROOTSTOCK_SECRET",
  description:
    "at least 32 bytes, the same for every replica; keys of tokens and stored secrets come from it. Several, separated by commas: the first signs and encrypts, all are accepted",
  secret: true,
};

const KMS: Setting = {
  flag: "--kms <list>",
  env: "ROOTSTOCK_KMS",
  description:
    "who wraps the keys of what is stored encrypted, separated by commas: secret (the above), file:<path> (a file of keys). The first wraps, all unwrap",
  defaultText: "secret",
};

const DEV_TOKEN: Setting = {
  flag: "--token <token>",
  env: "SCION_DEV_TOKEN",
  description: "the token to log in with",
  secret: true,
};

/** `rootstock start`. */
export const START_SETTINGS: readonly Setting[] = [
  {
    flag: "--port <port>",
    env: "ROOTSTOCK_PORT",
    description: "port of the load balancer on 127.0.0.1; 0 takes any free one",
    defaultText: "8787",
  },
  {
    flag: "--data <directory>",
    env: "ROOTSTOCK_DATA",
    description: "where everything is kept between runs",
    defaultText: "/var/lib/rootstock for root, else ~/.local/share/rootstock",
  },
  { flag: "--replicas <n>", env: "ROOTSTOCK_REPLICAS", description: "number of replicas, 1 to 16", defaultText: "3" },
  {
    flag: "--no-runtime-broker",
    env: "ROOTSTOCK_LOCAL_RUNTIME_BROKER",
    description: "do not start a runtime broker on this machine (the variable: 0)",
    switchValue: "0",
  },
  {
    flag: "--token <token>",
    env: "SCION_DEV_TOKEN",
    description: "the development token",
    defaultText: "one that is made once and kept",
    secret: true,
  },
  LOG_LEVEL,
];

/** `rootstock replica`. */
export const REPLICA_SETTINGS: readonly Setting[] = [
  ...SIGN_IN_SETTINGS,
  ...TRANSPORT_SETTINGS,
  { ...DATABASE_URL, description: `${DATABASE_URL.description}; may be a transaction-pooling proxy` },
  DATABASE_DIRECT_URL,
  { flag: "--host <address>", env: "HOST", description: "address to listen on", defaultText: "127.0.0.1" },
  { flag: "--port <port>", env: "PORT", description: "port to listen on; 0 takes any free one", defaultText: "8080" },
  SECRET,
  KMS,
  {
    flag: "--name <name>",
    env: "ROOTSTOCK_NAME",
    description: "name of this replica in logs, health and the database's list of connections",
    defaultText: "the host's name",
  },
  {
    flag: "--internal-url <url>",
    env: "ROOTSTOCK_INTERNAL_URL",
    description: "where the other replicas reach this one; needed for logs and exec across machines",
    defaultText: "the listening address where that is loopback",
  },
  {
    flag: "--public-url <url>",
    env: "ROOTSTOCK_PUBLIC_URL",
    description: "where clients, runtime brokers and containers reach the hub",
    defaultText: "the request's own origin",
  },
  {
    flag: "--dev-token <token>",
    env: "SCION_DEV_TOKEN",
    description:
      "switches the development login on: whoever shows this token (scion_dev_ and 64 hex digits) is an administrator",
    defaultText: "off",
    secret: true,
  },
  {
    flag: "--allow-remote-dev-login",
    env: "ROOTSTOCK_ALLOW_REMOTE_DEV_LOGIN",
    description: "allows the development login on another address than loopback (the variable: 1)",
  },
  {
    flag: "--trusted-proxies <list>",
    env: "ROOTSTOCK_TRUSTED_PROXIES",
    description: "addresses whose X-Forwarded headers are believed, separated by commas",
    defaultText: "none",
  },
  {
    flag: "--cors-origins <list>",
    env: "ROOTSTOCK_CORS_ORIGINS",
    description:
      "origins whose pages may call the API with tokens of their own, separated by commas; * for any, or none",
    defaultText: "*",
  },
  {
    flag: "--soft-delete-retention <duration>",
    env: "ROOTSTOCK_SOFT_DELETE_RETENTION",
    description: "how long a deleted agent can be restored, for example 72h or 30m; 0 deletes at once",
    defaultText: "72h",
  },
  {
    flag: "--message-retention <duration>",
    env: "ROOTSTOCK_MESSAGE_RETENTION",
    description: "how long an undelivered message waits for its agent",
    defaultText: "168h",
  },
  {
    flag: "--history-retention <duration>",
    env: "ROOTSTOCK_HISTORY_RETENTION",
    description:
      "how long messages are kept once they were delivered, read or given up; unread ones to persons twice as long; 0: for ever",
    defaultText: "2160h",
  },
  {
    flag: "--feed-retention <duration>",
    env: "ROOTSTOCK_FEED_RETENTION",
    description: "how far back an event stream can be resumed",
    defaultText: "168h",
  },
  {
    flag: "--stalled-after <duration>",
    env: "ROOTSTOCK_STALLED_AFTER",
    description: "how long an agent may show no activity before it counts as stalled",
    defaultText: "5m",
  },
  {
    flag: "--audit-retention <duration>",
    env: "ROOTSTOCK_AUDIT_RETENTION",
    description: "how long the audit log is kept, 24h at least; 0: for ever",
    defaultText: "8760h",
  },
  {
    flag: "--rate-limits <list>",
    env: "ROOTSTOCK_RATE_LIMITS",
    description:
      "changes to how much anybody may ask, as name=60/m:100 or name=off, separated by commas; off: no limits at all",
    defaultText: "high enough for a fleet of thousands behind one address",
  },
  {
    flag: "--terminal-idle <duration>",
    env: "ROOTSTOCK_TERMINAL_IDLE",
    description: "how long a terminal may stay open while nothing is typed or shown; 0: for ever",
    defaultText: "0",
  },
  {
    flag: "--terminal-limit <duration>",
    env: "ROOTSTOCK_TERMINAL_LIMIT",
    description: "how long a terminal may stay open at all; 0: for ever",
    defaultText: "0",
  },
  {
    flag: "--stream-relay <way>",
    env: "ROOTSTOCK_STREAM_RELAY",
    description:
      "how replicas pass terminals on: peer (directly), postgres, or auto (directly where they reach each other)",
    defaultText: "auto",
  },
  {
    flag: "--otlp-endpoint <url>",
    env: "OTEL_EXPORTER_OTLP_ENDPOINT",
    description: "where spans are sent as OTLP over HTTP, for example http://collector:4318",
    defaultText: "nowhere",
  },
  {
    flag: "--otlp-traces-endpoint <url>",
    env: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    description: "the same with its path",
    defaultText: "the endpoint's /v1/traces",
  },
  {
    flag: "--otlp-headers <list>",
    env: "OTEL_EXPORTER_OTLP_HEADERS",
    description: "headers of every export, as name=value,name=value with percent-encoded values",
    secret: true,
  },
  {
    flag: "--service-name <name>",
    env: "OTEL_SERVICE_NAME",
    description: "name of the service in spans",
    defaultText: "rootstock",
  },
  {
    flag: "--trace-ratio <share>",
    env: "ROOTSTOCK_TRACE_RATIO",
    description: "share of the traces begun here that is recorded, 0 to 1",
    defaultText: "1",
  },
  {
    flag: "--pool-size <n>",
    env: "ROOTSTOCK_POOL_SIZE",
    description: "database connections of the pool; a replica uses two more",
    defaultText: "10",
  },
  {
    flag: "--metrics-token <token>",
    env: "ROOTSTOCK_METRICS_TOKEN",
    description: "bearer token, drawn, with which a scraper may read /metrics; without it only administrators may",
    secret: true,
  },
  {
    flag: "--no-migrate",
    env: "ROOTSTOCK_MIGRATE",
    description: "do not run pending migrations at start (the variable: 0)",
    switchValue: "0",
  },
  {
    flag: "--drain-seconds <n>",
    env: "ROOTSTOCK_DRAIN_SECONDS",
    description: "how long a stopping replica goes on answering, so that load balancers notice",
    defaultText: "5",
  },
  LOG_LEVEL,
];

/** `rootstock migrate`. */
export const MIGRATE_SETTINGS: readonly Setting[] = [DATABASE_URL, DATABASE_DIRECT_URL, LOG_LEVEL];

/** `rootstock secrets …`. */
export const SECRETS_SETTINGS: readonly Setting[] = [DATABASE_URL, DATABASE_DIRECT_URL, SECRET, KMS, LOG_LEVEL];

const HUB_URL: Setting = {
  flag: "--hub <url>",
  env: "ROOTSTOCK_HUB_URL",
  description: "the hub's address (SCION_HUB_ENDPOINT is read too)",
};

const RUNTIME_BROKER_NAME: Setting = {
  flag: "--name <name>",
  env: "ROOTSTOCK_RUNTIME_BROKER_NAME",
  description: "the runtime broker's name",
  defaultText: "the host's name",
};

/** `rootstock runtime-broker`. */
export const RUNTIME_BROKER_SETTINGS: readonly Setting[] = [
  { ...HUB_URL, defaultText: "the one that the stored credentials name" },
  {
    flag: "--join-token <token>",
    env: "ROOTSTOCK_JOIN_TOKEN",
    description: "from `rootstock runtime-broker join-token`; needed once (SCION_BROKER_JOIN_TOKEN is read too)",
    secret: true,
  },
  {
    flag: "--id <uuid>",
    env: "ROOTSTOCK_RUNTIME_BROKER_ID",
    description: "the id that came with the join token (SCION_BROKER_ID is read too)",
  },
  RUNTIME_BROKER_NAME,
  {
    flag: "--register",
    env: "ROOTSTOCK_RUNTIME_BROKER_REGISTER",
    description: "fetches its own join token with SCION_DEV_TOKEN and offers itself to every project (the variable: 1)",
  },
  {
    flag: "--state <directory>",
    env: "ROOTSTOCK_RUNTIME_BROKER_STATE",
    description: "credentials, agents' files and sockets",
    defaultText: "~/.rootstock/runtime-broker",
  },
  {
    flag: "--runtime <kind>",
    env: "ROOTSTOCK_RUNTIME",
    description: "process: agents are terminal sessions on this machine; container: docker or podman",
    defaultText: "process",
  },
  {
    flag: "--container-command <name>",
    env: "ROOTSTOCK_CONTAINER_COMMAND",
    description: "docker or podman",
    defaultText: "docker",
  },
  {
    flag: "--container-image <image>",
    env: "ROOTSTOCK_CONTAINER_IMAGE",
    description: "image of agents that name none",
  },
  { flag: "--container-network <name>", env: "ROOTSTOCK_CONTAINER_NETWORK", description: "network of the containers" },
  {
    flag: "--container-hub <url>",
    env: "ROOTSTOCK_CONTAINER_HUB_URL",
    description: "the hub's address as containers see it",
    defaultText: "the hub's address",
  },
  {
    flag: "--harnesses <json>",
    env: "ROOTSTOCK_HARNESSES",
    description: "what agents run, by name; the harmless `shell` is always there",
  },
  { flag: "--harnesses-file <path>", env: "ROOTSTOCK_HARNESSES_FILE", description: "the same from a file" },
  {
    flag: "--default-harness <name>",
    env: "ROOTSTOCK_DEFAULT_HARNESS",
    description: "harness of agents that name none",
    defaultText: "shell",
  },
  {
    flag: "--concurrency <n>",
    env: "ROOTSTOCK_RUNTIME_BROKER_CONCURRENCY",
    description: "requests of the hub that run at once",
    defaultText: "20",
  },
  {
    flag: "--heartbeat-seconds <n>",
    env: "ROOTSTOCK_RUNTIME_BROKER_HEARTBEAT_SECONDS",
    description: "time between two reports about all agents",
    defaultText: "30",
  },
  {
    flag: "--stop-grace-seconds <n>",
    env: "ROOTSTOCK_STOP_GRACE_SECONDS",
    description: "how long an agent may take to end by itself",
    defaultText: "10",
  },
  LOG_LEVEL,
];

/** `rootstock runtime-broker join-token`. */
export const JOIN_TOKEN_SETTINGS: readonly Setting[] = [HUB_URL, DEV_TOKEN, RUNTIME_BROKER_NAME];

/** `rootstock login` and `rootstock logout`. */
export const LOGIN_SETTINGS: readonly Setting[] = [
  { ...HUB_URL, defaultText: "the cluster of `rootstock start` on this machine" },
];

/** `rootstock agent …`. */
export const AGENT_SETTINGS: readonly Setting[] = [
  { ...HUB_URL, defaultText: "the cluster of `rootstock start` on this machine" },
  { ...DEV_TOKEN, defaultText: "the one of `rootstock start` on this machine" },
  {
    flag: "--project <project>",
    env: "ROOTSTOCK_PROJECT",
    description: "id, slug or name of the project",
    defaultText: "default, made when it is missing",
  },
  {
    flag: "--data <directory>",
    env: "ROOTSTOCK_DATA",
    description: "where `rootstock start` keeps its data",
    defaultText: "as for `rootstock start`",
  },
];

/** Commands that talk to a hub about no project in particular. */
export const CLIENT_SETTINGS: readonly Setting[] = AGENT_SETTINGS.filter((s) => s.env !== "ROOTSTOCK_PROJECT");

/** Every variable of ours that some command reads; others of that prefix are mistakes. */
export const KNOWN_VARIABLES: ReadonlySet<string> = new Set(
  [
    START_SETTINGS,
    REPLICA_SETTINGS,
    MIGRATE_SETTINGS,
    RUNTIME_BROKER_SETTINGS,
    JOIN_TOKEN_SETTINGS,
    AGENT_SETTINGS,
  ].flatMap((settings) => settings.map((s) => s.env)),
);
