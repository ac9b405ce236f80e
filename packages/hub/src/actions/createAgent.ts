import { HubError, slugify, type Uuid } from "@rootstock/protocol";
import {
  createSubscription,
  type Db,
  type DispatchTarget,
  defaultRuntimeBrokerIfNone,
  insertAgent,
  isUniqueViolation,
  linkProvider,
  type ProjectRow,
  type RuntimeBrokerCandidate,
  setTask,
  settleAgent,
  targetBySlug,
} from "@rootstock/store";
import { type AgentPrincipal, decisionOn, type UserPrincipal } from "../auth/index.ts";
import type { Intent } from "../dispatch/index.ts";
import { agentJson } from "../wire/index.ts";
import { type CreateAgentRequest, configOf, templateOf } from "./agentConfig.ts";
import { chooseRuntimeBroker } from "./chooseRuntimeBroker.ts";
import {
  type ActionCall,
  type ActionDeps,
  agentAfter,
  carryOut,
  type LifecycleKind,
  targetResource,
  throwUnlessDone,
  whereHubIs,
} from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/** Users start agents, and agents start agents of their own project. */
export type Creator = UserPrincipal | AgentPrincipal;

/** What the CLI's `--notify` on start asks for (spec/02 2.6). */
const NOTIFY_TRIGGERS = ["COMPLETED", "WAITING_FOR_INPUT", "LIMITS_EXCEEDED", "STALLED", "ERROR"];

/** For so long an agent counts as being launched; its launcher may have died without a word. */
const LAUNCH_MS = 120_000;

/** How a create goes on: a new record, or one of this name that is there already. */
type Plan =
  | { readonly kind: "new" }
  /** Suspended: its session is taken up. Stopped and asked to resume, or never started: started in place. */
  | { readonly kind: "inPlace"; readonly op: "start" | "resume"; readonly target: DispatchTarget }
  /** Provisioned, waiting for values: the create is made again. */
  | { readonly kind: "again"; readonly target: DispatchTarget };

/**
 * Creates an agent and starts it, or takes up the one of this name (spec/02 2.6). 201 with the agent, 200 for one taken
 * up, 202 with `envGather` when values are missing and the caller wants to supply them.
 */
export const createAgent = async (
  deps: ActionDeps,
  call: ActionCall & { readonly principal: Creator },
  project: ProjectRow,
  request: CreateAgentRequest,
): Promise<Answer> => {
  const { db } = deps.database;
  const slug = slugify(request.name);
  if (!slug)
    throw new HubError("invalid_name", "the name must contain a letter or a digit", { details: { field: "name" } });
  const existing = await targetBySlug(db, { projectId: project.id, slug });
  const plan = await planFor(call, slug, request, existing, deps.base.clock.now());
  const runtimeBroker = await chooseRuntimeBroker(db, call.principal, {
    projectId: project.id,
    // Taken up where it is: its files and its session are there.
    asked: (plan.kind !== "new" && plan.target.agent.runtime_broker_id) || request.runtimeBrokerId || undefined,
  });
  checkIdentity(call.principal, request, runtimeBroker);
  if (request.workspaceFiles?.length && !runtimeBroker.localPath && !project.git_remote)
    throw new HubError("unprocessable", "workspace upload needs object storage, which this hub does not have", {
      details: { field: "workspaceFiles" },
    });

  const write =
    plan.kind === "new"
      ? await newAgent(deps, call, project, slug, request, runtimeBroker)
      : takenUp(plan.target, request, runtimeBroker.id);

  const prepare = async (tx: Db): Promise<Intent> => {
    // The project's row before the agent's, as everybody who needs both.
    if (!runtimeBroker.isProvider)
      await linkProvider(tx, {
        projectId: project.id,
        runtimeBrokerId: runtimeBroker.id,
        localPath: null,
        linkedBy: "agent-create",
      });
    await defaultRuntimeBrokerIfNone(tx, project.id, runtimeBroker.id);
    const agentId = await write(tx);
    if (request.notify) await subscribe(deps, tx, call.principal, agentId, project.id);
    return {
      id: deps.base.random.uuid(),
      op: plan.kind === "inPlace" ? plan.op : "create",
      agentId,
      agentSlug: slug,
      projectId: project.id,
      runtimeBrokerId: runtimeBroker.id,
      createdBy: call.principal.id,
      args: {
        ...whereHubIs(deps),
        ...(plan.kind === "new" && { fresh: true }),
        ...(plan.kind === "inPlace" && plan.op === "resume" && { resume: true }),
        ...(plan.kind === "inPlace" && request.task && { task: request.task }),
        ...(request.gatherEnv && { gather: true }),
        ...(request.provisionOnly && { provisionOnly: true }),
      },
    };
  };

  try {
    return await carryOut(deps, call, CREATE, prepare);
  } catch (err) {
    // Two creates of one name at once: the other one won.
    if (isUniqueViolation(err, "agents_slug")) throw taken(slug);
    throw err;
  }
};

const taken = (slug: string, phase?: string): HubError =>
  new HubError("conflict", `agent ${slug} already exists${phase ? ` and is ${phase}` : ""}`, {
    ...(phase && { details: { phase } }),
  });

/** What becomes of a create when the name is taken (spec/02 2.6). Throws 409. */
const planFor = async (
  call: ActionCall,
  slug: string,
  request: CreateAgentRequest,
  existing: DispatchTarget | undefined,
  now: number,
): Promise<Plan> => {
  if (!existing || existing.agent.deleted_at) return { kind: "new" };
  const { phase } = existing.agent;
  if (!(await decisionOn(call.principal, "read", targetResource(existing))).allow) throw taken(slug);
  const demandStart = async (): Promise<void> => {
    const decision = await decisionOn(call.principal, "lifecycle", targetResource(existing));
    if (!decision.allow) throw new HubError("forbidden", `you may not start this agent: ${decision.reason}`);
  };
  const inPlace = async (op: "start" | "resume"): Promise<Plan> => {
    await demandStart();
    return { kind: "inPlace", op, target: existing };
  };
  const underWay = existing.agent.launching && now - existing.agent.updated.getTime() < LAUNCH_MS;
  if (request.provisionOnly || underWay) throw taken(slug, phase);
  if (phase === "suspended") return inPlace("resume");
  if (phase === "stopped" && request.resume) return inPlace("start");
  if (phase === "provisioning" && request.gatherEnv) {
    // It would get the caller's task, and do it with the rights and the values of whose it is.
    await demandStart();
    return { kind: "again", target: existing };
  }
  if (phase === "created" || phase === "provisioning") return inPlace("start");
  throw taken(slug, phase);
};

/** A container that may use the machine's own cloud identity: only for whom the machine belongs to. */
const checkIdentity = (
  principal: Creator,
  request: CreateAgentRequest,
  runtimeBroker: RuntimeBrokerCandidate,
): void => {
  if (request.gcp_identity?.metadata_mode !== "passthrough") return;
  const owns = principal.kind === "user" && (principal.role === "admin" || runtimeBroker.createdBy === principal.id);
  if (!owns)
    throw new HubError("forbidden", "only the runtime broker's owner or an admin may pass its cloud identity through");
};

/** Writes the record that a create is about, and returns its id. */
type WriteAgent = (tx: Db) => Promise<Uuid>;

const newAgent = async (
  deps: ActionDeps,
  call: ActionCall & { readonly principal: Creator },
  project: ProjectRow,
  slug: string,
  request: CreateAgentRequest,
  runtimeBroker: RuntimeBrokerCandidate,
): Promise<WriteAgent> => {
  const { principal } = call;
  const id = deps.base.random.uuid();
  const creatorName = principal.kind === "user" ? principal.email : `agent:${principal.id}`;
  const { config, values } = configOf(request, project, creatorName);
  const kept = await deps.agentConfigs.kept(id, values);
  return async (tx) => {
    await insertAgent(tx, {
      id,
      projectId: project.id,
      slug,
      template: templateOf(request, project),
      runtimeBrokerId: runtimeBroker.id,
      labels: request.labels ?? {},
      annotations: request.annotations ?? {},
      appliedConfig: kept.over(config),
      image: config.image ?? null,
      createdBy: principal.id,
      ownerId: principal.id,
      ancestry: principal.kind === "user" ? [principal.id] : [...principal.ancestry, principal.id],
    });
    await kept.keep(tx);
    return id;
  };
};

const takenUp =
  ({ agent }: DispatchTarget, { task, attach }: CreateAgentRequest, runtimeBrokerId: Uuid): WriteAgent =>
  async (tx) => {
    if (agent.runtime_broker_id === null) await settleAgent(tx, { agentId: agent.id, runtimeBrokerId });
    if (task) await setTask(tx, agent.id, { task, attach: attach ?? undefined });
    return agent.id;
  };

const subscribe = async (deps: ActionDeps, tx: Db, creator: Creator, agentId: Uuid, projectId: Uuid): Promise<void> => {
  await createSubscription(tx, {
    id: deps.base.random.uuid(),
    agentId,
    projectId,
    subscriber: { type: creator.kind, id: creator.id },
    triggerActivities: NOTIFY_TRIGGERS,
  });
};

/** How the end of a create is told. */
export const CREATE: LifecycleKind = {
  name: "create",
  answer: async (deps, intent, outcome) => {
    throwUnlessDone(outcome);
    const agent = agentJson(await agentAfter(deps, intent, outcome));
    const result = outcome.kind === "done" ? outcome.result : {};
    if (result.envGather) return { status: 202, body: { agent, envGather: result.envGather } };
    const warnings = [
      ...(typeof result.warning === "string" ? [result.warning] : []),
      ...(outcome.kind === "unfinished" ? ["the start is still under way; it goes on without this call"] : []),
    ];
    return {
      status: intent.op === "create" ? 201 : 200,
      body: { agent, ...(warnings.length > 0 && { warnings }) },
    };
  },
};
