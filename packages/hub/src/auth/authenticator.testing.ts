import type { Base } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import { type AdmissionRules, People, UserStandings } from "../people/index.ts";
import type { RootSecrets } from "../secrets/index.ts";
import { AccessTokens } from "./accessTokens.ts";
import { BrowserSessions } from "./browserSessions.ts";
import { ProxyLogin } from "./proxyLogin.ts";
import { SignIns } from "./signIns.ts";
import { UserTokens } from "./userTokens.ts";

/** Whoever is vouched for comes in. */
export const EVERYBODY: AdmissionRules = { mode: "open", admins: new Set(), emailDomains: [], hostedDomains: [] };

/** The parts of an authenticator that people sign in through, without any proxy before the hub. */
export const signInParts = (base: Base, db: Db, secrets: RootSecrets = ["a shared secret of at least 32 bytes"]) => {
  const standings = new UserStandings(base.clock, db);
  const signIns = new SignIns(base, {
    db,
    tokens: new UserTokens(secrets, base),
    standings,
    changed: () => {},
  });
  return {
    standings,
    signIns,
    accessTokens: new AccessTokens(base, { db, standings }),
    sessions: new BrowserSessions(base, { db, secrets, signIns, publicUrl: undefined }),
    proxyLogin: new ProxyLogin({
      clock: base.clock,
      standings,
      people: new People(base, { db, rules: EVERYBODY, changed: () => {}, denied: async () => {} }),
      verifiers: [],
      plain: undefined,
    }),
  };
};
