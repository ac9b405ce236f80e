import type { Uuid } from "@rootstock/protocol";
import type { Base, Service } from "@rootstock/service";
import { type Credentials, watched } from "../auth/index.ts";
import type { HubConfig } from "../config.ts";
import {
  CONTROL_DEFAULTS,
  ControlChannel,
  HeartbeatIntake,
  Ownership,
  Registry,
  SocketProofs,
} from "../control/index.ts";
import type { Foundation } from "./foundation.ts";

/** The sockets of runtime brokers and what they report. */
export interface Control {
  readonly registry: Registry;
  readonly controlChannel: ControlChannel;
  readonly heartbeats: HeartbeatIntake;
  readonly proofs: SocketProofs;
  readonly stages: readonly (readonly Service[])[];
}

/** Builds what holds sockets, and has it follow the replica's place in the database. */
export const buildControl = (config: HubConfig, base: Base, f: Foundation): Control => {
  const { database, membership, signaller, coordination, commandBus, secrets, signatures, tracing } = f;
  const ownership = new Ownership(database, membership, signaller, base);
  const options = CONTROL_DEFAULTS;
  const signingKeys = async (id: Uuid) => (await secrets.of(database.db, id)).map((s) => s.key);
  const registry = new Registry(base, ownership, { options, signingKeys, tracing });
  const proofs = new SocketProofs(base, { registry, secretsOf: (id) => secrets.of(database.db, id) });
  const verify = watched(
    {
      denied: (event) => f.denials.record(event),
      trusts: (address) => config.trustedProxies.has(address),
      guard: f.limits,
    },
    (request: Credentials) => signatures.verify(request),
  );
  const controlChannel = new ControlChannel(base, { registry, ownership, signatures: { verify }, proofs, options });
  const heartbeats = new HeartbeatIntake(base, database, signaller);

  commandBus.onLookAtEverything(() => void registry.poll());
  membership.onSuspended(() => registry.suspend());
  membership.onReregistered(() => void registry.poll());
  coordination.onChange((held) => {
    if (held) registry.resume();
  });
  return { registry, controlChannel, heartbeats, proofs, stages: [[registry, heartbeats, proofs]] };
};
