import { finishInbound, inboundOperation } from "./acceptInbound.ts";
import { VERB } from "./changeLifecycle.ts";
import { CREATE } from "./createAgent.ts";
import { DELETE } from "./deleteAgent.ts";
import { type ActionDeps, lifecycleFinisher } from "./deps.ts";
import { type Finisher, finisher } from "./idempotency.ts";
import { finishResetAll, resetAllOperation } from "./resetAllAuth.ts";
import { RESET_AUTH } from "./resetAuth.ts";
import { finishMessage, messageOperation } from "./sendMessage.ts";
import { finishMany, manyOperation } from "./sendToMany.ts";
import { finishStopAll, stopAllOperation } from "./stopAll.ts";
import { ENV } from "./submitEnv.ts";

/** How each kind of keyed call is finished, by whichever replica is asked. */
export const finishers = (deps: ActionDeps): Readonly<Record<string, Finisher>> => ({
  ...Object.fromEntries(
    [CREATE, VERB, DELETE, ENV, RESET_AUTH].map((kind) => [kind.name, lifecycleFinisher(deps, kind)]),
  ),
  inbound: finisher(inboundOperation, (op) => finishInbound(deps, op)),
  message: finisher(messageOperation, (op) => finishMessage(deps, op)),
  many: finisher(manyOperation, (op) => finishMany(deps, op)),
  resetAll: finisher(resetAllOperation, (op) => finishResetAll(deps, op)),
  stopAll: finisher(stopAllOperation, (op) => finishStopAll(deps, op)),
});
