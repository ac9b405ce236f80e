import type { Base } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import { type AdmissionRules, People, UserStandings } from "../people/index.ts";
import { ProxyLogin } from "./proxyLogin.ts";

/** Whoever is vouched for comes in. */
export const EVERYBODY: AdmissionRules = { mode: "open", admins: new Set(), emailDomains: [], hostedDomains: [] };

/** The parts of an authenticator that people sign in through, without any proxy before the hub. */
export const signInParts = (base: Base, db: Db) => ({
  standings: new UserStandings(base.clock, db),
  proxyLogin: new ProxyLogin({
    clock: base.clock,
    people: new People(base, { db, rules: EVERYBODY, changed: () => {} }),
    verifiers: [],
    plain: undefined,
  }),
});
