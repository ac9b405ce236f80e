import { agentKey } from "../agents/agentRecord.ts";
import { type CreatePayload, createPayload } from "../agents/createPayload.ts";
import { gatherEnv } from "../agents/envGather.ts";
import { prepareDirectories } from "../agents/workspace.ts";
import type { OperationAnswer } from "../tunnel/answer.ts";
import { BrokerApiError } from "../tunnel/errors.ts";
import { parseBody } from "../tunnel/request.ts";
import { applyCreate } from "./applyCreate.ts";
import type { Operation, OperationContext } from "./operation.ts";
import { removeFormer } from "./removeAgent.ts";

/** `POST /api/v1/agents` (spec/01 4.2, 4.3): provisions and, unless told not to, starts an agent. */
export const createAgent: Operation = {
  method: "POST",
  path: "/api/v1/agents",
  turn: ({ request }) => {
    const payload = parseBody(request, createPayload);
    return agentKey(payload.projectId, payload.slug ?? payload.name);
  },
  async run({ request }, context) {
    const payload = parseBody(request, createPayload);
    const { requestId } = payload;
    const before = requestId === undefined ? undefined : await context.creates.answered(requestId);
    if (before) return before;
    const answer = await create(payload, context);
    if (requestId !== undefined) await context.creates.remember(requestId, answer);
    return answer;
  },
};

const create = async (payload: CreatePayload, context: OperationContext): Promise<OperationAnswer> => {
  if (payload.workspaceStoragePath) {
    throw new BrokerApiError("not_implemented", "this runtime broker has no object storage to fetch a workspace from");
  }
  const { agents } = context;
  const key = agentKey(payload.projectId, payload.slug ?? payload.name);
  await removeFormer(key, payload.id ?? undefined, context);
  const existing = agents.store.get(key);
  const session = existing && (await agents.session(existing));
  if (existing && session?.status === "running") {
    // This very create, cut off by a crash before it was answered; or one without a task, which starts what runs already.
    const same = payload.requestId !== undefined && existing.createRequestId === payload.requestId;
    if (same || !payload.config?.task)
      return { status: 201, json: { agent: agents.view(existing, session, true), created: true } };
  }
  const missing = gatherEnv(payload, context.config, existing && (await agents.store.environment(existing.key)));
  if (missing.needs.length > 0 && !payload.provisionOnly) {
    if (!payload.gatherEnv) {
      throw new BrokerApiError("runtime_error", `missing environment values: ${missing.needs.join(", ")}`, {
        details: { missingKeys: missing.needs },
      });
    }
    const agentId = payload.id ?? payload.name;
    await context.pending.put(agentId, payload);
    return { status: 202, json: { agentId, ...missing } };
  }
  return startCreated(payload, context);
};

/** Makes the agent's record and files, and starts it: what create does when nothing is missing, and finalize-env later. */
export const startCreated = async (payload: CreatePayload, context: OperationContext): Promise<OperationAnswer> => {
  const { agents, config } = context;
  const { record, environment } = await applyCreate(payload, context);
  const stored = await agents.store.put(record);
  await agents.store.putEnvironment(record.key, environment);
  if (payload.provisionOnly) {
    await prepareDirectories(config.stateDirectory, stored);
    agents.changed.emit(stored.key);
    return { status: 201, json: { agent: agents.view(stored, undefined), created: true } };
  }
  const launched = await agents.launch(stored, {
    task: stored.task,
    resume: false,
    token: payload.agentToken ?? payload.resolvedEnv.SCION_AUTH_TOKEN,
  });
  return { status: 201, json: { agent: agents.view(launched.record, launched.session, true), created: true } };
};
