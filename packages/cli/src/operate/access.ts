import type { AuditEntry } from "@rootstock/client";
import type { Flag, OperatorCommands } from "./command.ts";
import { principalNamed } from "./names.ts";
import { done, list } from "./shown.ts";

const PRINCIPALS = ["user", "agent"] as const;
const RESULTS = ["success", "failure"] as const;

/** `rootstock access explain`. */
export const ACCESS_COMMANDS: OperatorCommands = {
  name: "access",
  summary: "why somebody may do something, or may not",
  description: "Access decisions: for administrators about everybody, for everybody else about themselves.",
  commands: [
    {
      name: "explain",
      summary: "tell whether somebody may do something, and why",
      words: [
        { name: "<principal>", description: "a person's address or id, an agent's id" },
        { name: "<action>", description: "such as read, update, delete, start, message" },
        { name: "<type>", description: "of what: project, agent, group, policy, user, broker, hub, …" },
        { name: "[resource]", description: "its id; without it, all that belong to no project" },
      ],
      flags: [
        { flag: "--principal-type <type>", description: "what asks", choices: PRINCIPALS, defaultsTo: "user" },
        { flag: "--from <address>", description: "from where the call would come" },
      ],
      run: async ({ hub, word, flag }) => {
        const principalType = flag("principalType") === "agent" ? "agent" : "user";
        const answer = await hub.access.explain({
          principalType,
          principalId: await principalNamed(hub, principalType, word("principal")),
          action: word("action"),
          resourceType: word("type"),
          resourceId: word("resource") || undefined,
          sourceIp: flag("from"),
        });
        const { matchedPolicy: policy } = answer;
        const by = policy ? ` (policy ${policy.name}, ${policy.id})` : "";
        return done(`${answer.allowed ? "allowed" : "denied"}: ${answer.reason}${by}`, answer);
      },
    },
  ],
};

const FILTERS: readonly Flag[] = [
  { flag: "--actor <who>", description: "id, e-mail address, or kind: user, agent, system, …" },
  { flag: "--action <action>", description: "such as login, user_role_changed, agent_deleted" },
  { flag: "--target <what>", description: "id, name, or type" },
  { flag: "--result <result>", description: "only what succeeded, or failed", choices: RESULTS },
  { flag: "--since <time>", description: "RFC 3339, such as 2026-01-31T12:00:00Z" },
  { flag: "--until <time>", description: "likewise" },
];

/** `rootstock audit …`. */
export const AUDIT_COMMANDS: OperatorCommands = {
  name: "audit",
  summary: "who did what",
  description:
    "The audit log, newest first: for administrators all of it, for who may change a project what concerns it.",
  commands: [
    {
      name: "list",
      summary: "list what was done",
      flags: [
        ...FILTERS,
        { flag: "--of-project <id>", description: "only what concerns the project with this id" },
        { flag: "--limit <n>", description: "at most so many", defaultsTo: "100" },
      ],
      run: (asked) => {
        const { hub, flag } = asked;
        const project = flag("ofProject");
        const filter = {
          actor: flag("actor"),
          action: flag("action"),
          target: flag("target"),
          result: RESULTS.find((known) => known === flag("result")),
          since: flag("since"),
          until: flag("until"),
        };
        const columns = {
          AT: (e: AuditEntry) => e.at,
          WHO: (e: AuditEntry) => e.actor.email ?? [e.actor.kind, e.actor.id].filter(Boolean).join(" "),
          ACTION: (e: AuditEntry) => (e.result === "failure" ? `${e.action} (refused)` : e.action),
          TARGET: (e: AuditEntry) => `${e.target.type} ${e.target.name ?? e.target.id ?? ""}`.trim(),
          FROM: (e: AuditEntry) => e.from.address,
          ID: (e: AuditEntry) => e.id,
        };
        const entries = project ? hub.audit.ofProject(project, filter) : hub.audit.all(filter);
        return list(asked, entries, columns, "nothing");
      },
    },
  ],
};
