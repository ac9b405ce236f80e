import type { Setting } from "./flags.ts";

/** Flags of `rootstock replica` about what lets agents through what stands before the hub. */
export const TRANSPORT_SETTINGS: readonly Setting[] = [
  {
    flag: "--transport-mode <mode>",
    env: "ROOTSTOCK_TRANSPORT_MODE",
    description:
      "how agents get through what stands before the hub: none, iap, cloudrun_invoker (tokens of Google for a service account), local (tokens of the hub itself, for a proxy of your own)",
    defaultText: "none",
  },
  {
    flag: "--transport-audience <text>",
    env: "ROOTSTOCK_TRANSPORT_AUDIENCE",
    description: "audience of those tokens; required for iap, where it is the OAuth client's id",
    defaultText: "the public URL",
  },
  {
    flag: "--transport-service-account <address>",
    env: "ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT",
    description:
      "service account that they name, for which the hub's own may create tokens; required for iap and cloudrun_invoker",
  },
  {
    flag: "--transport-iam-url <url>",
    env: "ROOTSTOCK_TRANSPORT_IAM_URL",
    description: "where IAM Credentials are served",
    defaultText: "Google's",
  },
  {
    flag: "--transport-metadata-url <url>",
    env: "ROOTSTOCK_TRANSPORT_METADATA_URL",
    description: "where the machine's metadata are served",
    defaultText: "Google's",
  },
];
