/** What this program says its version is, in `connect`, join and `/healthz`. Nobody compares it (spec/01 rule 12). */
export const VERSION = "0.1.0";
