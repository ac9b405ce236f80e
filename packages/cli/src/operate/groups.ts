import type { Group, GroupMember, HubClient, MemberKey, MemberRole, MemberType } from "@rootstock/client";
import { UsageError } from "../exitCodes.ts";
import type { Asked, Flag, OperatorCommands, Word } from "./command.ts";
import { groupNamed, principalNamed } from "./names.ts";
import { done, LIMIT, list, one, when } from "./shown.ts";

const ROLES: readonly MemberRole[] = ["member", "admin", "owner"];
const TYPES: readonly MemberType[] = ["user", "agent", "group"];
const GROUP: Word = { name: "<group>", description: "slug or id; of a project's members: project:SLUG:members" };
const MEMBER: Word = { name: "<member>", description: "a person's address or id, a group's slug or id, an agent's id" };
const TYPE: Flag = { flag: "--type <type>", description: "what the member is", choices: TYPES, defaultsTo: "user" };
const ROLE: Flag = { flag: "--role <role>", description: "its role", choices: ROLES, defaultsTo: "member" };

const roleOf = (given: string | undefined): MemberRole => {
  const role = ROLES.find((known) => known === given);
  if (!role) throw new UsageError([`role: want one of ${ROLES.join(", ")}`]);
  return role;
};

const keyOf = async (hub: HubClient, { word, flag }: Asked): Promise<MemberKey> => {
  const memberType = TYPES.find((known) => known === flag("type")) ?? "user";
  return { memberType, memberId: await principalNamed(hub, memberType, word("member")) };
};

/** `rootstock groups …`. */
export const GROUP_COMMANDS: OperatorCommands = {
  name: "groups",
  summary: "groups, and the members of projects",
  description:
    "Groups of people, agents and other groups. A project's members are the group project:SLUG:members: its owners and admins run the project.",
  commands: [
    {
      name: "list",
      summary: "list groups",
      flags: [{ flag: "--of-project <id>", description: "only those of the project with this id" }, LIMIT],
      run: (asked) => {
        const columns = {
          SLUG: (g: Group) => g.slug,
          NAME: (g: Group) => g.name,
          TYPE: (g: Group) => g.groupType,
          ID: (g: Group) => g.id,
        };
        return list(asked, asked.hub.groups.all({ projectId: asked.flag("ofProject") }), columns, "no groups");
      },
    },
    {
      name: "show",
      summary: "show a group",
      words: [GROUP],
      run: async ({ hub, word }) => one(await groupNamed(hub, word("group"))),
    },
    {
      name: "create",
      summary: "make a group",
      words: [{ name: "<name>", description: "its name; the slug follows from it" }],
      flags: [{ flag: "--description <text>", description: "what it is for" }],
      run: async ({ hub, word, flag }) => {
        const group = await hub.groups.create({ name: word("name"), description: flag("description") });
        return done(`${group.slug} (${group.id})`, group);
      },
    },
    {
      name: "delete",
      summary: "delete a group",
      words: [GROUP],
      run: async ({ hub, word }) => {
        const { id, slug } = await groupNamed(hub, word("group"));
        await hub.groups.delete(id);
        return done(`${slug}: deleted`);
      },
    },
    {
      name: "members",
      summary: "list the members of a group",
      words: [GROUP],
      flags: [LIMIT],
      run: async (asked) => {
        const { id } = await groupNamed(asked.hub, asked.word("group"));
        const columns = {
          NAME: (m: GroupMember) => m.displayName,
          TYPE: (m: GroupMember) => m.memberType,
          ROLE: (m: GroupMember) => m.role,
          ADDED: (m: GroupMember) => when(m.addedAt),
          ID: (m: GroupMember) => m.memberId,
        };
        return list(asked, asked.hub.groups.members(id), columns, "no members");
      },
    },
    {
      name: "add",
      summary: "add a member to a group",
      words: [GROUP, MEMBER],
      flags: [TYPE, ROLE],
      run: async (asked) => {
        const { hub, word, flag } = asked;
        const { id, slug } = await groupNamed(hub, word("group"));
        const member = await hub.groups.addMember(id, { ...(await keyOf(hub, asked)), role: roleOf(flag("role")) });
        return done(`${slug}: ${word("member")} is ${member.role}`, member);
      },
    },
    {
      name: "role",
      summary: "give a member another role",
      words: [GROUP, MEMBER, { name: "<role>", description: "its role", choices: ROLES }],
      flags: [TYPE],
      run: async (asked) => {
        const { hub, word } = asked;
        const { id, slug } = await groupNamed(hub, word("group"));
        const member = await hub.groups.changeRole(id, await keyOf(hub, asked), roleOf(word("role")));
        return done(`${slug}: ${word("member")} is ${member.role}`, member);
      },
    },
    {
      name: "remove",
      summary: "take a member out of a group",
      words: [GROUP, MEMBER],
      flags: [TYPE],
      run: async (asked) => {
        const { hub, word } = asked;
        const { id, slug } = await groupNamed(hub, word("group"));
        await hub.groups.removeMember(id, await keyOf(hub, asked));
        return done(`${slug}: ${word("member")} removed`);
      },
    },
  ],
};
