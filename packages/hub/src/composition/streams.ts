import type { HubError } from "@rootstock/protocol";
import type { Base, Service } from "@rootstock/service";
import type { HubConfig } from "../config.ts";
import { CONFIGS_SEALED_SINCE } from "../secrets/index.ts";
import {
  AgentStreams,
  answering,
  Detours,
  isOwnerIn,
  Mailbox,
  PeerLink,
  PostgresLink,
  Relay,
  SealedFrames,
  Tending,
} from "../streams/index.ts";
import type { Control } from "./control.ts";
import type { Foundation } from "./foundation.ts";

/** Terminals, logs and exec from any replica. */
export interface Streams {
  readonly tending: Tending;
  readonly relay: Relay;
  readonly streams: AgentStreams;
  readonly stages: readonly (readonly Service[])[];
}

/** Builds the ways by which a stream or a call reaches the replica that holds a socket. */
export const buildStreams = (
  config: HubConfig,
  base: Base,
  f: Foundation,
  { registry }: Control,
  toError: (err: unknown) => HubError,
): Streams => {
  const { db } = f.database;
  const tokens = f.replicaTokens;
  const tending = new Tending(base);
  const mailbox = new Mailbox(base, {
    db,
    signals: f.commandBus,
    instanceId: f.membership.instanceId,
    sealed: new SealedFrames({ box: f.box, olderReplicas: () => f.releases.olderThan(CONFIGS_SEALED_SINCE) }),
  });
  const isOwner = isOwnerIn(db);
  const throughDatabase = new PostgresLink(base, {
    isOwner,
    mailbox,
    tending,
    registry,
    serve: (request) => answering(relay.serve(request), toError),
  });
  const ways = {
    detour: config.streamRelay === "peer" ? undefined : throughDatabase,
    detours: new Detours(base.clock),
  };
  const direct = config.streamRelay !== "postgres";
  const relay: Relay = new Relay(base, { ...ways, db, isOwner, registry, tokens, direct });
  const peers = direct ? new PeerLink(base, { tokens, tending, isOwner }) : undefined;
  const streams = new AgentStreams(base, { ...ways, db, registry, direct: peers });
  return { tending, relay, streams, stages: [[mailbox], [throughDatabase], [tending]] };
};
