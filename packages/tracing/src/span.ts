/** What hub and agent know of tracing: spans of ours. Whose library makes and sends them is known to otlp.ts only. */

/** Counts, names and codes; never what was said, who said it, or a secret. What is undefined is left out. */
export type Attributes = Record<string, string | number | boolean | string[] | undefined>;

/** `server` and `client` face another machine. */
export type SpanKind = "internal" | "server" | "client";

export interface SpanOptions {
  kind?: SpanKind;
  attributes?: Attributes;
}

/** A piece of work with a beginning and an end, within a trace. */
export interface Span {
  /** 32 hex digits, the same for all spans of a trace. */
  readonly traceId: string;
  /** W3C trace context, for whoever is asked next. */
  readonly traceparent: string;
  /** Whether it will be exported. Nothing need be said of one that will not. */
  readonly sampled: boolean;
  child(name: string, options?: SpanOptions): Span;
  set(attributes: Attributes): void;
  /** Something that happened `agoMs` milliseconds ago. */
  event(name: string, agoMs: number): void;
  /** What broke it: one of few codes, no message. */
  fail(errorType: string): void;
  /** Once; a second time does nothing. */
  end(): void;
}

export interface Tracer {
  /** Goes on with the trace of a W3C `traceparent`, which may come from anybody; begins one where it is none. */
  start(name: string, options?: SpanOptions & { traceparent?: string | undefined }): Span;
}

/** A tracer that runs, and how to end it. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Sends what is left, within CLOSE_MS, and ends. Never rejects. */
  close(): Promise<void>;
}

/** How long the last spans may take to be sent at the end. */
export const CLOSE_MS = 2_000;
