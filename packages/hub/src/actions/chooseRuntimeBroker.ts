import { HubError, parseUuid, type Uuid } from "@rootstock/protocol";
import { type Db, type RuntimeBrokerCandidate, runtimeBrokerCandidates, runtimeBrokersNamed } from "@rootstock/store";
import { decide, type Facts, factsOf, type Principal } from "../auth/index.ts";
import { reachability } from "../dispatch/index.ts";

/** Whether an agent started on it now would come up: connected, or expected back within the grace. */
const isUp = (c: RuntimeBrokerCandidate): boolean => reachability({ ...c, connectedSessionId: null }) !== "away";

const mayDispatch = (principal: Principal, facts: Facts, c: RuntimeBrokerCandidate): boolean =>
  // An agent places its children where its project already runs.
  principal.kind === "agent"
    ? c.isProvider || c.autoProvide
    : decide(
        principal,
        "dispatch",
        { kind: "runtimeBroker", id: c.id, createdBy: c.createdBy, autoProvide: c.autoProvide },
        facts,
      ).allow;

/** The list that the CLI prompts from (spec/01 1.7). */
const offered = (candidates: readonly RuntimeBrokerCandidate[]) =>
  candidates.map((c) => ({ id: c.id, name: c.name, status: c.status, ...(c.isDefault && { isDefault: true }) }));

/**
 * The runtime broker for a new agent (spec/01 1.7): the one asked for; else the project's default; else the only one
 * that serves the project; else the only one there is. Throws 422 `no_runtime_broker` with the choice that is left; 422
 * `unprocessable` for one asked for that is unknown or was never there, 503 for one that is away, 403 for one that the
 * caller may not use.
 */
export const chooseRuntimeBroker = async (
  db: Db,
  principal: Principal,
  p: { readonly projectId: Uuid; readonly asked: string | undefined },
): Promise<RuntimeBrokerCandidate> => {
  if (p.asked) return askedFor(db, principal, p.projectId, p.asked);
  const candidates = await runtimeBrokerCandidates(db, p.projectId);
  const facts = await factsOf(principal);
  const usable = candidates.filter((c) => isUp(c) && mayDispatch(principal, facts, c));
  const chosen = candidates.find((c) => c.isDefault);
  if (chosen) {
    if (usable.includes(chosen)) return chosen;
    throw none(`the project's default runtime broker ${chosen.name} is not available`, candidates);
  }
  const providers = usable.filter((c) => c.isProvider);
  const [first] = providers.length > 0 ? providers : usable;
  if (first && (providers.length === 1 || (providers.length === 0 && usable.length === 1))) return first;
  throw none(
    usable.length === 0 ? "no runtime broker is available" : "several runtime brokers are available; choose one",
    candidates,
  );
};

const none = (message: string, candidates: readonly RuntimeBrokerCandidate[]): HubError =>
  new HubError("no_runtime_broker", message, { details: { availableBrokers: offered(candidates) } });

const askedFor = async (
  db: Db,
  principal: Principal,
  projectId: Uuid,
  asked: string,
): Promise<RuntimeBrokerCandidate> => {
  const [found] = await runtimeBrokersNamed(db, { projectId, name: asked, id: parseUuid(asked) });
  const details = async () => ({
    requestedBrokerId: asked,
    availableBrokers: offered((await runtimeBrokerCandidates(db, projectId)).filter(isUp)),
  });
  // Not 503, where nobody is expected. Not 404, which the CLI takes for the path's and asks again below /groves.
  const useless = async (message: string) =>
    new HubError("unprocessable", message, { details: { field: "runtimeBrokerId", ...(await details()) } });
  if (!found) throw await useless(`runtime broker ${asked} not found`);
  if (!mayDispatch(principal, await factsOf(principal), found))
    throw new HubError("forbidden", `you may not run agents on runtime broker ${found.name}`);
  if (found.connectedHubId === null && found.awaySeconds === null)
    throw await useless(`runtime broker ${found.name} has never been connected`);
  if (!isUp(found))
    throw new HubError("runtime_broker_unavailable", `runtime broker ${found.name} is not connected`, {
      details: await details(),
      retryAfter: 30,
    });
  return found;
};
