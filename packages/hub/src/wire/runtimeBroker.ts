import type { Labels, RuntimeBrokerRow } from "@rootstock/store";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";

/** A runtime broker as clients see it (spec/01 1.1). */
export interface RuntimeBrokerJson {
  readonly id: string;
  readonly name: string;
  readonly slug: string;
  readonly version: string;
  readonly status: string;
  readonly connectionState: "connected" | "disconnected";
  readonly lastHeartbeat: string;
  readonly capabilities?: Readonly<Record<string, unknown>>;
  readonly profiles?: readonly Readonly<Record<string, unknown>>[];
  readonly labels?: Labels;
  readonly annotations?: Labels;
  readonly connectedHubId?: string;
  readonly connectedSessionId?: string;
  readonly connectedAt?: string;
  readonly endpoint?: string;
  readonly autoProvide?: boolean;
  readonly created: string;
  readonly updated: string;
  readonly createdBy?: string;
  readonly createdByName?: string;
  readonly localPath?: string;
  readonly _capabilities?: Capabilities;
}

/** The runtime broker; `localPath` where a project of its machine is asked about. */
export const runtimeBrokerJson = (
  r: RuntimeBrokerRow,
  more: { readonly localPath?: string | null; readonly capabilities?: Capabilities } = {},
): RuntimeBrokerJson => ({
  id: r.id,
  name: r.name,
  slug: r.slug,
  version: r.version,
  status: r.status,
  connectionState: r.connected_hub_id === null ? "disconnected" : "connected",
  lastHeartbeat: timeOrZero(r.last_heartbeat),
  ...some("capabilities", r.capabilities),
  ...some("profiles", r.profiles),
  ...some("labels", r.labels),
  ...some("annotations", r.annotations),
  ...some("connectedHubId", r.connected_hub_id),
  ...some("connectedSessionId", r.connected_session_id),
  ...(r.connected_at && { connectedAt: time(r.connected_at) }),
  ...some("endpoint", r.endpoint),
  ...some("autoProvide", r.auto_provide),
  created: time(r.created),
  updated: time(r.updated),
  ...some("createdBy", r.created_by),
  ...some("createdByName", r.created_by_name),
  ...some("localPath", more.localPath),
  ...(more.capabilities && { _capabilities: more.capabilities }),
});
