import { z } from "zod";
import { httpUrl, problemsOf } from "./configValues.ts";

/** What lets agents through what stands before the hub, by configuration (spec/03 1.6). */
export interface TransportConfig {
  readonly issuer: "google" | "local";
  readonly audience: string;
  /** Whom the tokens name. */
  readonly serviceAccount: string;
  readonly iamUrl: string;
  readonly metadataUrl: string;
}

/** The variables of transport tokens with what they mean. */
export const TRANSPORT_VARIABLES = {
  ROOTSTOCK_TRANSPORT_MODE:
    "how agents get through what stands before the hub: none, iap, cloudrun_invoker (tokens of Google for a service account), local (tokens of the hub itself, for a proxy of your own) (default none)",
  ROOTSTOCK_TRANSPORT_AUDIENCE:
    "audience of those tokens (required for iap, where it is the OAuth client's id; default: ROOTSTOCK_PUBLIC_URL)",
  ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT:
    "service account that they name, for which the hub's own may create tokens (required for iap and cloudrun_invoker)",
  ROOTSTOCK_TRANSPORT_IAM_URL: "where IAM Credentials are served (default Google's)",
  ROOTSTOCK_TRANSPORT_METADATA_URL: "where the machine's metadata are served (default Google's)",
} as const;

const schema = z.object({
  ROOTSTOCK_TRANSPORT_MODE: z
    .enum(["none", "iap", "cloudrun_invoker", "local"], "want none, iap, cloudrun_invoker or local")
    .default("none"),
  ROOTSTOCK_TRANSPORT_AUDIENCE: z.string().optional(),
  ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT: z
    .string()
    .regex(/^[^\s@/]+@[^\s@/]+$/, "want a service account's address")
    .optional(),
  ROOTSTOCK_TRANSPORT_IAM_URL: httpUrl.default("https://iamcredentials.googleapis.com"),
  ROOTSTOCK_TRANSPORT_METADATA_URL: httpUrl.default("http://metadata.google.internal"),
  ROOTSTOCK_PUBLIC_URL: httpUrl.optional().catch(undefined),
});

/** Whom tokens of the hub itself name when nothing else is said. */
const LOCAL_ACCOUNT = "agents@rootstock.internal";

/** What the variables say of transport tokens; what is missing is a problem that names its variable. */
export const parseTransport = (
  given: Readonly<Record<string, unknown>>,
): { readonly config: TransportConfig | undefined; readonly problems: readonly string[] } => {
  const parsed = schema.safeParse(given);
  if (!parsed.success) return { config: undefined, problems: problemsOf(parsed.error) };
  const v = parsed.data;
  const mode = v.ROOTSTOCK_TRANSPORT_MODE;
  if (mode === "none") return { config: undefined, problems: [] };
  const audience = v.ROOTSTOCK_TRANSPORT_AUDIENCE ?? (mode === "iap" ? undefined : v.ROOTSTOCK_PUBLIC_URL);
  const serviceAccount = v.ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT ?? (mode === "local" ? LOCAL_ACCOUNT : undefined);
  const problems: string[] = [];
  if (audience === undefined) {
    const instead = mode === "iap" ? "" : ", or ROOTSTOCK_PUBLIC_URL,";
    problems.push(`ROOTSTOCK_TRANSPORT_AUDIENCE:${instead} is required with ROOTSTOCK_TRANSPORT_MODE=${mode}`);
  }
  if (serviceAccount === undefined)
    problems.push(`ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT: is required with ROOTSTOCK_TRANSPORT_MODE=${mode}`);
  if (audience === undefined || serviceAccount === undefined) return { config: undefined, problems };
  return {
    problems,
    config: {
      issuer: mode === "local" ? "local" : "google",
      audience,
      serviceAccount,
      iamUrl: v.ROOTSTOCK_TRANSPORT_IAM_URL,
      metadataUrl: v.ROOTSTOCK_TRANSPORT_METADATA_URL,
    },
  };
};
