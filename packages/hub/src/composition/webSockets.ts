import type { HubError } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { actingAs, recordAudit } from "@rootstock/store";
import { auditActor, type Credentials, clientAddress, type Principal } from "../auth/index.ts";
import type { HubConfig } from "../config.ts";
import type { DeclaredUpgrades } from "../http/index.ts";
import type { Metrics } from "../metrics/index.ts";
import {
  answersToPeers,
  type OpenedTerminal,
  refusalEvent,
  TerminalUpgrades,
  UPGRADE_ROUTES,
  type UpgradeRoute,
} from "../routes/index.ts";
import { CalledByPeers } from "../sockets/index.ts";
import { PeerStreams, PortTunnels } from "../streams/index.ts";
import type { Control } from "./control.ts";
import type { Dispatch } from "./dispatch.ts";
import type { Foundation } from "./foundation.ts";
import type { Streams } from "./streams.ts";

/** What the WebSockets of a replica hang on. */
export interface WebSocketParts {
  readonly foundation: Foundation;
  readonly control: Control;
  readonly streams: Streams;
  readonly dispatch: Dispatch;
  readonly metrics: Metrics;
  readonly authenticate: (credentials: Credentials) => Promise<Principal>;
  readonly toError: (err: unknown) => HubError;
  /** False while the replica starts. */
  readonly serving: () => boolean;
}

/** Every WebSocket that a replica serves, and what has to be started and stopped of that. */
export interface WebSockets {
  readonly handlers: readonly DeclaredUpgrades[];
  readonly calledByPeers: CalledByPeers;
}

/** Builds what takes the upgrades of `UPGRADE_ROUTES`. */
export const webSockets = (config: HubConfig, base: Base, parts: WebSocketParts): WebSockets => {
  const { control, streams, dispatch, metrics, authenticate, toError, serving } = parts;
  const { limits, denials, database, openStreams, maintenance } = parts.foundation;
  const trusts = (address: string) => config.trustedProxies.has(address);
  const met = (principal: Principal, { peer, headers }: Credentials) =>
    limits.spend(principal, clientAddress(peer, headers.get("x-forwarded-for"), trusts));
  const upgrades = { tending: streams.tending, authenticate, toError, met };
  const actor = (principal: Principal, { headers, peer }: Credentials) => {
    const address = clientAddress(peer, headers.get("x-forwarded-for"), trusts);
    return auditActor(principal, { headers, address, requestId: headers.get("x-request-id") ?? undefined });
  };
  const refusedAt =
    (route: UpgradeRoute | undefined) =>
    (
      principal: Principal,
      credentials: Credentials,
      refusal: HubError,
      params: Readonly<Record<string, string>> = {},
    ) =>
      void (
        route &&
        actingAs(
          () => actor(principal, credentials),
          () => denials.record(refusalEvent(route, params, refusal)),
        )
      );
  const opened = (principal: Principal, credentials: Credentials, terminal: OpenedTerminal) =>
    actingAs(
      () => actor(principal, credentials),
      () =>
        recordAudit(database.db, {
          action: "terminal_opened",
          targetType: "agent",
          targetId: terminal.agentId,
          targetName: terminal.slug,
          projectId: terminal.projectId,
          details: { readonly: terminal.readonly },
        }),
    );
  const terminals = new TerminalUpgrades(base, {
    ...upgrades,
    limits,
    openStreams,
    opened,
    refused: refusedAt(UPGRADE_ROUTES.terminals[0]),
    authenticate: async (credentials) => {
      const principal = await authenticate(credentials);
      maintenance.admit(principal);
      return principal;
    },
    db: database.db,
    streams: streams.streams,
    serving,
    idleMs: config.terminalIdleSeconds * 1000,
    limitMs: config.terminalLimitSeconds * 1000,
  });
  const peerStreams = new PeerStreams(base, {
    ...upgrades,
    registry: control.registry,
    refused: refusedAt(UPGRADE_ROUTES.peerStreams[0]),
  });
  const portTunnels = new PortTunnels(base, {
    ...upgrades,
    hold: (principal) => openStreams.hold(principal),
    refused: refusedAt(UPGRADE_ROUTES.portTunnels[0]),
  });
  const calledByPeers = new CalledByPeers(base, {
    ...upgrades,
    answers: answersToPeers(dispatch),
    refused: refusedAt(UPGRADE_ROUTES.peerCalls[0]),
    serving,
    answered: (call, status, seconds) => metrics.peerCalls.observe({ call, status }, seconds),
  });
  const handlers = [
    { handler: control.controlChannel, routes: UPGRADE_ROUTES.controlChannel },
    { handler: calledByPeers, routes: UPGRADE_ROUTES.peerCalls },
    { handler: peerStreams, routes: UPGRADE_ROUTES.peerStreams },
    { handler: terminals, routes: UPGRADE_ROUTES.terminals },
    { handler: portTunnels, routes: UPGRADE_ROUTES.portTunnels },
  ];
  return { handlers, calledByPeers };
};
