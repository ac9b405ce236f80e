import type { Metrics } from "../metrics/index.ts";
import type { Control } from "./control.ts";
import type { Foundation } from "./foundation.ts";
import type { Streams } from "./streams.ts";

/** Figures that are read when somebody asks for the metrics. */
export const observe = (metrics: Metrics, f: Foundation, { registry }: Control, { tending }: Streams): void => {
  const { database, listener, eventBus, coordination, openStreams } = f;
  const gauges: readonly (readonly [name: string, help: string, read: () => number])[] = [
    ["pool_connections", "Open database connections.", () => database.stats().total],
    ["pool_idle", "Idle database connections.", () => database.stats().idle],
    ["pool_waiting", "Callers that wait for a database connection.", () => database.stats().waiting],
    [
      "signals_degraded",
      "1 while polling replaces signals that do not come through.",
      () => (listener.state().healthy ? 0 : 1),
    ],
    [
      "coordination_degraded",
      "1 while session locks cannot be had, or mean nothing behind a pooling proxy.",
      () => (coordination.held() && !coordination.pooled() ? 0 : 1),
    ],
    [
      "signal_round_trip_seconds",
      "How long the last signal to itself took.",
      () => (listener.state().roundTripMs ?? 0) / 1000,
    ],
    ["reader_lag_seconds", "How old the oldest change of the last read was.", () => eventBus.stats().lagMs / 1000],
    ["reader_xmin_age", "Transactions between the oldest open one and the newest.", () => eventBus.stats().xminAge],
    ["runtime_broker_sockets", "Sockets of runtime brokers held here.", () => registry.size],
    ["streams", "Terminals and followed logs open here, those for other replicas included.", () => tending.size],
    [
      "held_streams",
      "Event streams, followed logs and terminals open here of those for whom they are counted.",
      () => openStreams.size,
    ],
    [
      "runtime_broker_streams",
      "Streams open at the runtime brokers whose sockets are held here.",
      () => [...registry.all()].reduce((sum, connection) => sum + connection.streams, 0),
    ],
  ];
  for (const [name, help, read] of gauges) metrics.gauge(`rootstock_${name}`, help, read);
};
