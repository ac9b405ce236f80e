/** People: who they are, who may come in, and how they stand now. */
export * from "./admission.ts";
export * from "./fresh.ts";
export * from "./identity.ts";
export * from "./inviteCodes.ts";
export * from "./lastSeen.ts";
export * from "./linkedSignIns.ts";
export { GOOGLE_ISSUER, IAP_ISSUER, namesOfIssuer, presentName } from "./linking.ts";
export * from "./people.ts";
export * from "./standings.ts";
