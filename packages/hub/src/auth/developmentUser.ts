import type { UserPrincipal } from "./principal.ts";

/** Whoever shows the development token (spec/03 1.4). The id is the original's, so that a taken-over database fits. */
export const DEVELOPMENT_USER: UserPrincipal = {
  kind: "user",
  id: "be67fbc9-c869-5d43-b15d-c28ca3e8d355",
  email: "dev@localhost",
  displayName: "Development User",
  role: "admin",
};
