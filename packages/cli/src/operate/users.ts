import type { Identity, User, UserRole, UserStatus } from "@rootstock/client";
import { UsageError } from "../exitCodes.ts";
import type { Asked, OperatorCommands, Word } from "./command.ts";
import { userNamed } from "./names.ts";
import { done, LIMIT, list, one, type Shown, when } from "./shown.ts";

const ROLES: readonly UserRole[] = ["admin", "member", "viewer"];
const STATUSES: readonly UserStatus[] = ["active", "suspended"];
const WHO: Word = { name: "<user>", description: "e-mail address or id" };

const oneOf = <T extends string>(values: readonly T[], given: string | undefined): T | undefined =>
  values.find((value) => value === given);

const setStatus =
  (status: UserStatus) =>
  async ({ hub, word }: Asked): Promise<Shown> => {
    const user = await hub.users.change((await userNamed(hub, word("user"))).id, { status });
    return done(`${user.email}: ${user.status}`, user);
  };

/** `rootstock users …`. */
export const USER_COMMANDS: OperatorCommands = {
  name: "users",
  summary: "people: roles, suspensions, invites",
  description: "People of a hub. Roles and suspensions hold at every replica within two seconds.",
  commands: [
    {
      name: "list",
      summary: "list people",
      flags: [
        { flag: "--role <role>", description: "only those with this role", choices: ROLES },
        { flag: "--status <status>", description: "only those with this status", choices: STATUSES },
        { flag: "--search <text>", description: "only those with this in their address or name" },
        LIMIT,
      ],
      run: (asked) => {
        const [role, status] = [oneOf(ROLES, asked.flag("role")), oneOf(STATUSES, asked.flag("status"))];
        const columns = {
          EMAIL: (u: User) => u.email,
          NAME: (u: User) => u.displayName,
          ROLE: (u: User) => u.role,
          STATUS: (u: User) => u.status,
          "LAST SEEN": (u: User) => when(u.lastSeen),
          ID: (u: User) => u.id,
        };
        return list(asked, asked.hub.users.all({ role, status, search: asked.flag("search") }), columns, "nobody");
      },
    },
    {
      name: "show",
      summary: "show a person",
      words: [WHO],
      run: async ({ hub, word }) => one(await userNamed(hub, word("user"))),
    },
    {
      name: "role",
      summary: "give a person another role",
      words: [WHO, { name: "<role>", description: "what they may do", choices: ROLES }],
      run: async ({ hub, word }) => {
        const role = oneOf(ROLES, word("role"));
        if (!role) throw new UsageError([`<role>: want one of ${ROLES.join(", ")}`]);
        const user = await hub.users.change((await userNamed(hub, word("user"))).id, { role });
        return done(`${user.email}: ${user.role}`, user);
      },
    },
    {
      name: "suspend",
      summary: "keep a person out, with all of their tokens, until they are activated",
      words: [WHO],
      run: setStatus("suspended"),
    },
    { name: "activate", summary: "let a suspended person in again", words: [WHO], run: setStatus("active") },
    {
      name: "sign-out",
      summary: "end all that signing in has given a person, everywhere",
      words: [WHO],
      run: async ({ hub, word }) => {
        const { id, email } = await userNamed(hub, word("user"));
        await hub.users.signOut(id);
        return done(`${email}: signed out everywhere`);
      },
    },
    {
      name: "sign-ins",
      summary: "list the sign-ins that open a person's account",
      words: [WHO],
      flags: [LIMIT],
      run: async (asked) => {
        const { id } = await userNamed(asked.hub, asked.word("user"));
        const columns = {
          WITH: (i: Identity) => i.label,
          EMAIL: (i: Identity) => i.email,
          LINKED: (i: Identity) => when(i.created),
          "LAST USED": (i: Identity) => when(i.lastUsed),
          ID: (i: Identity) => i.id,
        };
        return list(asked, asked.hub.users.identities(id), columns, "none");
      },
    },
    {
      name: "unlink",
      summary:
        "take a sign-in from a person's account; without any, the next who is vouched for with its address has it",
      words: [WHO, { name: "<id>", description: "of the sign-in, as `sign-ins` lists it" }],
      run: async ({ hub, word }) => {
        const { id, email } = await userNamed(hub, word("user"));
        await hub.users.unlink(id, word("id"));
        return done(`${email}: unlinked, and signed out everywhere`);
      },
    },
    {
      name: "delete",
      summary: "end a person's account; their projects and agents stay, without an owner",
      words: [WHO],
      run: async ({ hub, word }) => {
        const { id, email } = await userNamed(hub, word("user"));
        await hub.users.delete(id);
        return done(`${email}: deleted`);
      },
    },
    {
      name: "invite",
      summary: "make an invite, whose address is shown this once",
      flags: [
        { flag: "--expires <duration>", description: "how long it is good, at most 120h", defaultsTo: "24h" },
        { flag: "--uses <n>", description: "how many may use it; 0 for any number", defaultsTo: "1" },
        { flag: "--note <text>", description: "what it is for", defaultsTo: "" },
        { flag: "--email <address>", description: "whom on the allow list it is for" },
      ],
      run: async ({ hub, flag }) => {
        const uses = flag("uses") ?? "";
        if (!/^\d{1,7}$/.test(uses)) throw new UsageError([`--uses: want a whole number, got "${uses}"`]);
        const invite = await hub.invites.create({
          expiresIn: flag("expires") ?? "",
          maxUses: Number(uses),
          note: flag("note") ?? "",
          email: flag("email"),
        });
        return done(`${invite.inviteUrl}\ngood until ${invite.invite.expiresAt}`, invite);
      },
    },
  ],
};
