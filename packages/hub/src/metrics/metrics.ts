import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25];

/** Everything a replica counts. One per replica: several may live in one process. */
export class Metrics {
  readonly registry = new Registry();

  readonly requests = new Histogram({
    name: "rootstock_http_request_seconds",
    help: "HTTP requests by route, method and status.",
    labelNames: ["route", "method", "status"] as const,
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly dispatches = new Counter({
    name: "rootstock_dispatches_total",
    help: "Lifecycle calls and messages by operation, way (local, forward, held) and outcome.",
    labelNames: ["op", "way", "outcome"] as const,
    registers: [this.registry],
  });

  readonly dispatchSeconds = new Histogram({
    name: "rootstock_dispatch_seconds",
    help: "Time from accepting an operation to its end, by operation and way.",
    labelNames: ["op", "way"] as const,
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly peerCalls = new Histogram({
    name: "rootstock_peer_call_seconds",
    help: "Calls of other replicas answered over their sockets, by call and status.",
    labelNames: ["call", "status"] as const,
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly rateLimited = new Counter({
    name: "rootstock_rate_limited_total",
    help: "Calls refused with 429, by limit.",
    labelNames: ["limit"] as const,
    registers: [this.registry],
  });

  readonly unrecordedDenials = new Counter({
    name: "rootstock_audit_unrecorded_total",
    help: "Refused credentials and sign-ins that got no row of the audit log, because there were many.",
    registers: [this.registry],
  });

  /** Process figures cost a timer: only a replica in its own process wants them. */
  collectProcess(): void {
    collectDefaultMetrics({ register: this.registry, prefix: "rootstock_" });
  }

  /** A figure that is read when somebody asks for it. */
  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** The exposition text of Prometheus. */
  text(): Promise<string> {
    return this.registry.metrics();
  }
}
