/** The W3C trace context of a call, as the header `traceparent` carries it. */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits: the span of whoever sent it. */
  readonly spanId: string;
  /** Whether the sender records its part. */
  readonly sampled: boolean;
}

const FORM = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const LONGEST = 512;

/**
 * Reads a `traceparent` (W3C Trace Context, section 3.2.2). Undefined for what the standard says to ignore: version ff, ids of
 * zeros, capitals, and more fields than version 00 has. Of a later version the four known fields count.
 */
export const parseTraceparent = (text: string | null | undefined): TraceContext | undefined => {
  if (!text || text.length > LONGEST) return undefined;
  const [, version, traceId, spanId, flags, more] = FORM.exec(text) ?? [];
  if (!version || !traceId || !spanId || !flags) return undefined;
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
};

/** The header's text for a context. */
export const formatTraceparent = (context: TraceContext): string =>
  `00-${context.traceId}-${context.spanId}-${context.sampled ? "01" : "00"}`;
