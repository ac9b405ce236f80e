import type { Agent, HubClient, ProjectAgents } from "@rootstock/client";
import type { Command } from "commander";
import { followLog } from "../agent/followLog.ts";
import { useProject } from "../agent/project.ts";
import { startAgent } from "../agent/start.ts";
import { connect } from "../connection.ts";
import { EXIT_CODE_HELP, UsageError } from "../exitCodes.ts";
import { addSettings, type Env, settingsEnv } from "../flags.ts";
import { AGENT_SETTINGS, KNOWN_VARIABLES } from "../settings.ts";
import { table } from "../table.ts";
import type { Terminal } from "../terminal.ts";

interface Session {
  readonly hub: HubClient;
  readonly env: Env;
  /** The agents of the chosen project; `create` makes the default project when it is missing. */
  readonly agents: (options?: { readonly create?: boolean }) => Promise<ProjectAgents>;
}

const openSession = (command: Command, terminal: Terminal): Session => {
  const { env, problems } = settingsEnv(command, AGENT_SETTINGS, terminal.env, KNOWN_VARIABLES, []);
  if (problems.length > 0) throw new UsageError(problems);
  const hub = connect(env, terminal.base);
  const agents = async (options: { readonly create?: boolean } = {}) =>
    hub.agents((await useProject(hub, env.ROOTSTOCK_PROJECT || undefined, options.create === true)).id);
  return { hub, env, agents };
};

const state = (agent: Agent): string => (agent.activity ? `${agent.phase} (${agent.activity})` : agent.phase);

const define = (parent: Command, usage: string, summary: string, description?: string): Command =>
  parent
    .command(usage)
    .summary(summary)
    .description(description ?? `${summary[0]?.toUpperCase()}${summary.slice(1)}.`)
    .addHelpText("after", EXIT_CODE_HELP);

/** `rootstock agent …`: enough for the tour without another command line. */
export const addAgentCommand = (program: Command, terminal: Terminal): void => {
  const parent = program
    .command("agent")
    .summary("start agents, talk to them, stop them")
    .description("Talks to the cluster of `rootstock start` on this machine, or to the hub that is named.");

  const start = define(parent, "start <name> [task]", "start an agent, or a stopped one again")
    .option("--harness <name>", "what the agent runs; the runtime broker's default otherwise")
    .option("--template <name>", "template of the agent")
    .option("--runtime-broker <name>", "name or id of the runtime broker; the hub chooses otherwise");
  addSettings(start, AGENT_SETTINGS).action(
    async (
      name: string,
      task: string | undefined,
      options: Partial<Record<"harness" | "template" | "runtimeBroker", string>>,
    ) => {
      const session = openSession(start, terminal);
      const agents = await session.agents({ create: true });
      const request = {
        name,
        task,
        harnessConfig: options.harness,
        template: options.template,
        runtimeBrokerId: options.runtimeBroker,
      };
      const { agent, warnings } = await startAgent(agents, request, session.env);
      for (const warning of warnings ?? []) terminal.err(`warning: ${warning}`);
      const where = agent.runtimeBrokerName ? ` on ${agent.runtimeBrokerName}` : "";
      terminal.out(`${agent.slug}: ${state(agent)}${where}`);
    },
  );

  const list = define(parent, "list", "list the project's agents").option("--deleted", "deleted agents, too");
  addSettings(list, AGENT_SETTINGS).action(async (options: { deleted?: true }) => {
    const agents = await openSession(list, terminal).agents();
    const rows: string[][] = [];
    for await (const agent of agents.all({ includeDeleted: options.deleted, limit: 200 })) {
      rows.push([agent.slug, state(agent), agent.harnessConfig ?? "", agent.runtimeBrokerName ?? "", agent.updated]);
    }
    terminal.out(
      rows.length === 0 ? "no agents" : table(["NAME", "PHASE", "HARNESS", "RUNTIME BROKER", "UPDATED"], rows),
    );
  });

  const message = define(
    parent,
    "message <name> <text...>",
    "send a message to an agent",
    "Sends a message to an agent. When this returns with 0, the message is stored and will not be lost; the answer says whether the agent's runtime broker has it already.",
  )
    .option("--interrupt", "interrupt what the agent is doing")
    .option("--wake", "start a suspended agent first")
    .option("--queue", "keep the message for an agent that is not running, until it runs again");
  addSettings(message, AGENT_SETTINGS).action(
    async (name: string, text: readonly string[], options: Partial<Record<"interrupt" | "wake" | "queue", true>>) => {
      const agents = await openSession(message, terminal).agents();
      const sent = await agents.message(name, { message: text.join(" "), ...options });
      terminal.out(`${sent.status} (message ${sent.message_id})`);
    },
  );

  const logs = define(parent, "logs <name>", "print what an agent has printed")
    .option("--tail <n>", "only the last lines")
    .option("--follow", "go on with what it prints from now on, until the log ends or Ctrl-C");
  addSettings(logs, AGENT_SETTINGS).action(async (name: string, options: { tail?: string; follow?: true }) => {
    if (options.tail !== undefined && !/^[1-9]\d{0,6}$/.test(options.tail)) {
      throw new UsageError([`--tail: want a whole number above 0, got "${options.tail}"`]);
    }
    const agents = await openSession(logs, terminal).agents();
    const tail = options.tail === undefined ? undefined : Number(options.tail);
    if (options.follow) {
      await followLog(agents, name, tail, terminal);
      return;
    }
    const text = await agents.logs(name, { tail });
    terminal.out(text.replace(/\n$/, ""));
  });

  const stop = define(parent, "stop <name>", "stop an agent");
  addSettings(stop, AGENT_SETTINGS).action(async (name: string) => {
    const agents = await openSession(stop, terminal).agents();
    const agent = await agents.stop(name);
    terminal.out(`${agent.slug}: ${state(agent)}`);
  });
};
