import type { BoundPrincipal, HubClient, Policy } from "@rootstock/client";
import { UsageError } from "../exitCodes.ts";
import { readIfPresent } from "../start/files.ts";
import type { Asked, OperatorCommands, Word } from "./command.ts";
import { policyNamed, principalNamed } from "./names.ts";
import { done, LIMIT, list, one } from "./shown.ts";

const TYPES: readonly BoundPrincipal["principalType"][] = ["user", "group", "agent"];
const POLICY: Word = { name: "<policy>", description: "name or id" };
const TYPE: Word = { name: "<type>", description: "what is bound to it", choices: TYPES };
const PRINCIPAL: Word = {
  name: "<principal>",
  description: "a person's address or id, a group's slug or id, an agent's id",
};

const principalOf = async (hub: HubClient, { word }: Asked): Promise<BoundPrincipal> => {
  const principalType = TYPES.find((known) => known === word("type")) ?? "user";
  return { principalType, principalId: await principalNamed(hub, principalType, word("principal")) };
};

/** The object in a file of JSON. @throws UsageError */
const objectIn = (path: string): object => {
  const text = readIfPresent(path);
  if (text === undefined) throw new UsageError([`<file>: there is no ${path}`]);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch (cause) {
    throw new UsageError([`<file>: ${path} is no JSON: ${cause instanceof Error ? cause.message : "unreadable"}`]);
  }
  throw new UsageError([`<file>: ${path} holds no policy`]);
};

/** `rootstock policies …`. */
export const POLICY_COMMANDS: OperatorCommands = {
  name: "policies",
  summary: "what people, groups and agents may do beyond their own, or may not",
  description: "Policies of a hub, and for whom they are: for administrators.",
  commands: [
    {
      name: "list",
      summary: "list policies",
      flags: [LIMIT],
      run: (asked) => {
        const columns = {
          NAME: (p: Policy) => p.name,
          EFFECT: (p: Policy) => p.effect,
          ACTIONS: (p: Policy) => p.actions.join(","),
          ON: (p: Policy) => p.resourceType,
          SCOPE: (p: Policy) => (p.scopeId ? `${p.scopeType} ${p.scopeId}` : p.scopeType),
          PRIORITY: (p: Policy) => String(p.priority),
          ID: (p: Policy) => p.id,
        };
        return list(asked, asked.hub.policies.all(), columns, "no policies");
      },
    },
    {
      name: "show",
      summary: "show a policy, and for whom it is",
      words: [POLICY],
      run: async ({ hub, word }) => {
        const policy = await policyNamed(hub, word("policy"));
        const bindings = await hub.policies.bindings(policy.id);
        return one({ ...policy, boundTo: bindings.map((b) => `${b.principalType} ${b.principalId}`) });
      },
    },
    {
      name: "create",
      summary: "make a policy",
      words: [
        { name: "<file>", description: "JSON: name, scopeType, scopeId, resourceType, actions, effect, conditions, …" },
      ],
      run: async ({ hub, word }) => {
        const policy = await hub.policies.create(objectIn(word("file")));
        return done(`${policy.name} (${policy.id})`, policy);
      },
    },
    {
      name: "delete",
      summary: "delete a policy",
      words: [POLICY],
      run: async ({ hub, word }) => {
        const { id, name } = await policyNamed(hub, word("policy"));
        await hub.policies.delete(id);
        return done(`${name}: deleted`);
      },
    },
    {
      name: "bind",
      summary: "have a policy hold for somebody",
      words: [POLICY, TYPE, PRINCIPAL],
      run: async (asked) => {
        const { hub, word } = asked;
        const { id, name } = await policyNamed(hub, word("policy"));
        await hub.policies.bind(id, await principalOf(hub, asked));
        return done(`${name}: holds for ${word("type")} ${word("principal")}`);
      },
    },
    {
      name: "unbind",
      summary: "have a policy hold for somebody no more",
      words: [POLICY, TYPE, PRINCIPAL],
      run: async (asked) => {
        const { hub, word } = asked;
        const { id, name } = await policyNamed(hub, word("policy"));
        await hub.policies.unbind(id, await principalOf(hub, asked));
        return done(`${name}: holds for ${word("type")} ${word("principal")} no more`);
      },
    },
  ],
};
