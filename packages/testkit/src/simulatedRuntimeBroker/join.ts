import { noteSecretsIn } from "../runRecord.ts";

/** What a join gives, as the unmodified command line keeps it. */
export interface SimulatedCredentials {
  readonly brokerId: string;
  /** Standard base64. */
  readonly secretKey: string;
}

/** Registers a runtime broker with a user's token and joins, as `runtime-broker register` does (spec/01 7.1). */
export const joinRuntimeBroker = async (options: {
  readonly hubUrl: string;
  /** A user's bearer token. */
  readonly token: string;
  readonly name: string;
  readonly brokerId?: string;
  readonly autoProvide?: boolean;
}): Promise<SimulatedCredentials> => {
  const post = async (path: string, body: object): Promise<Record<string, string>> => {
    const response = await fetch(`${options.hubUrl}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${options.token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    noteSecretsIn(text);
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
    return JSON.parse(text);
  };
  const { name, brokerId, autoProvide } = options;
  const registered = await post("/api/v1/brokers", {
    name,
    capabilities: ["sync", "attach"],
    ...(brokerId && { brokerId }),
    ...(autoProvide && { autoProvide }),
  });
  const joined = await post("/api/v1/brokers/join", {
    brokerId: registered.brokerId,
    joinToken: registered.joinToken,
    hostname: name,
    version: "",
    capabilities: ["sync", "attach"],
    profiles: [{ name: "local", type: "podman", available: true }],
  });
  if (!joined.brokerId || !joined.secretKey) throw new Error("join answered without credentials");
  return { brokerId: joined.brokerId, secretKey: joined.secretKey };
};
