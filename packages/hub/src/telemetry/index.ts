/** Spans over OTLP: what the hub sees of it is one small interface, which costs nothing while nobody listens. */
export { OtlpTracing, type OtlpTracingOptions } from "./otlpTracing.ts";
export * from "./tracing.ts";
