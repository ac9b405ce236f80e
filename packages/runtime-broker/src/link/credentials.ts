import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { parseUuid, slugify } from "@rootstock/protocol";
import { z } from "zod";
import { makePrivateDirectory, readJson, writeDurably } from "../files.ts";

/** The credentials file, in the original's format (spec/01 1.5), so that either program can use the other's. */
const credentialsFile = z.object({
  name: z.string(),
  brokerId: z.string().transform((text, context) => {
    const id = parseUuid(text);
    if (id === undefined) context.addIssue({ code: "custom", message: "not a UUID" });
    return id ?? z.NEVER;
  }),
  secretKey: z.base64().refine((text) => Buffer.from(text, "base64").byteLength > 0, "empty key"),
  hubEndpoint: z.url(),
  authMode: z.enum(["hmac", "dev-auth", "bearer"]).default("hmac"),
  registeredAt: z.string().optional(),
  /** Ours: which join token brought these, so that the same token at the next start is not used again. */
  joinTokenHash: z.string().optional(),
});

export interface Credentials {
  readonly brokerId: string;
  readonly secret: Buffer;
  /** Base URL of the hub, without a slash at the end. */
  readonly hubUrl: string;
  readonly joinTokenHash: string | undefined;
}

const DIRECTORY = "hub-credentials";

/** Names the token in the credentials file without giving it away. */
export const hashJoinToken = (token: string): string => createHash("sha256").update(token).digest("hex");

/** File name for a hub: its host, and its port unless that is one that says nothing (spec/01 1.5). */
export const credentialsName = (hubUrl: string): string => {
  const { hostname, port } = new URL(hubUrl);
  return slugify(["", "80", "443", "8080"].includes(port) ? hostname : `${hostname}-${port}`) || "hub";
};

/** Reads and writes the credentials of a runtime broker: `hub-credentials/<name>.json`, 0600 in a 0700 directory. */
export class CredentialsStore {
  readonly #directory: string;

  constructor(stateDirectory: string) {
    this.#directory = join(stateDirectory, DIRECTORY);
  }

  /**
   * The credentials for `hubUrl`, or the only ones there are when it is undefined.
   * @throws Error when several hubs are stored and none is named
   */
  async read(hubUrl: string | undefined): Promise<Credentials | undefined> {
    const name = hubUrl === undefined ? await this.#onlyName() : `${credentialsName(hubUrl)}.json`;
    if (name === undefined) return undefined;
    const parsed = credentialsFile.safeParse(await readJson(join(this.#directory, name)));
    if (!parsed.success) return undefined;
    const file = parsed.data;
    return {
      brokerId: file.brokerId,
      secret: Buffer.from(file.secretKey, "base64"),
      hubUrl: (hubUrl ?? file.hubEndpoint).replace(/\/+$/, ""),
      joinTokenHash: file.joinTokenHash,
    };
  }

  /** Stores credentials durably; they are the only copy of the secret on this side. `now`: milliseconds since the epoch. */
  async write(credentials: Credentials, now: number): Promise<void> {
    const name = credentialsName(credentials.hubUrl);
    await makePrivateDirectory(this.#directory);
    const file: z.input<typeof credentialsFile> = {
      name,
      brokerId: credentials.brokerId,
      secretKey: credentials.secret.toString("base64"),
      hubEndpoint: credentials.hubUrl,
      authMode: "hmac",
      registeredAt: new Date(now).toISOString(),
      ...(credentials.joinTokenHash && { joinTokenHash: credentials.joinTokenHash }),
    };
    await writeDurably(join(this.#directory, `${name}.json`), `${JSON.stringify(file, null, 2)}\n`);
  }

  async #onlyName(): Promise<string | undefined> {
    const entries = await readdir(this.#directory).catch(() => []);
    const names = entries.filter((entry) => entry.endsWith(".json"));
    if (names.length > 1)
      throw new Error(`credentials for several hubs are stored; name one with hubUrl: ${names.join(", ")}`);
    return names[0];
  }
}
