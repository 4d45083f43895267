/**
 * Spans by OpenTelemetry's SDK, sent over OTLP. The only module that loads it, and only when it is asked for. Nothing is
 * registered globally: the libraries that look for a global tracer would tell of queries and addresses that are not ours to tell.
 */
import * as api from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { TracingSettings } from "./settings.ts";
import { type Attributes, CLOSE_MS, type Span, type SpanOptions, type Tracing } from "./span.ts";
import { formatTraceparent, parseTraceparent } from "./traceparent.ts";

/** Spans of one export. */
const BATCH_MAX = 512;
/** Characters of a name or an attribute: models and nodes have names that others chose. */
const TEXT_LENGTH_MAX = 256;
const ATTRIBUTES_MAX = 64;
const EVENTS_MAX = 8;

export interface Program {
  name: string;
  version: string;
  /** Told when an export fails, and not again until one was taken. */
  onLost?(error: string): void;
}

/** Starts to send what `settings` ask for. */
export async function startOtlp(settings: TracingSettings, program: Program): Promise<Tracing> {
  const exporter = noticing(await exporterOf(settings), program.onLost ?? (() => {}));
  const processor = new BatchSpanProcessor({
    exporter,
    maxQueueSize: settings.queueMax,
    maxExportBatchSize: Math.min(BATCH_MAX, settings.queueMax),
    scheduledDelayMillis: settings.delayMs,
    exportTimeoutMillis: settings.timeoutMs,
  });
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      "service.version": program.version,
      ...settings.resource,
      "service.name": settings.serviceName ?? settings.resource["service.name"] ?? program.name,
    }),
    sampler: samplerOf(settings),
    spanProcessors: [processor],
    spanLimits: {
      attributeValueLengthLimit: TEXT_LENGTH_MAX,
      attributeCountLimit: ATTRIBUTES_MAX,
      eventCountLimit: EVENTS_MAX,
    },
  });
  const tracer = provider.getTracer(program.name, program.version);
  return {
    tracer: {
      start: (name, { traceparent, ...options } = {}) =>
        begin(tracer, name, options, remote(traceparent), clock()),
    },
    close: () => within(CLOSE_MS, provider.shutdown()),
  };
}

const kinds = {
  internal: api.SpanKind.INTERNAL,
  server: api.SpanKind.SERVER,
  client: api.SpanKind.CLIENT,
};

/** One for the spans of a trace here, so that none seems to end after what it is a part of: the SDK would round each by itself. */
function clock(): () => number {
  const behindMs = Date.now() - performance.now();
  return () => behindMs + performance.now();
}

function begin(
  tracer: api.Tracer,
  name: string,
  { kind = "internal", attributes }: SpanOptions,
  parent: api.Context,
  nowMs: () => number,
): Span {
  const given = attributes ? { attributes } : {};
  const short = name.slice(0, TEXT_LENGTH_MAX);
  const span = tracer.startSpan(short, { kind: kinds[kind], startTime: nowMs(), ...given }, parent);
  const { traceId, spanId, traceFlags } = span.spanContext();
  const sampled = (traceFlags & api.TraceFlags.SAMPLED) !== 0;
  const self: Span = {
    traceId,
    traceparent: formatTraceparent({ traceId, spanId, sampled }),
    sampled,
    // No sampler keeps a part of what it does not keep.
    child: (of, options = {}) =>
      sampled ? begin(tracer, of, options, api.trace.setSpan(api.ROOT_CONTEXT, span), nowMs) : self,
    set: (more: Attributes) => void (span.isRecording() && span.setAttributes(more)),
    event: (of, agoMs) => void (span.isRecording() && span.addEvent(of, nowMs() - agoMs)),
    fail(errorType) {
      if (!span.isRecording()) return;
      span.setAttribute("error.type", errorType);
      span.setStatus({ code: api.SpanStatusCode.ERROR });
    },
    end: () => void (span.isRecording() && span.end(nowMs())),
  };
  return self;
}

function remote(traceparent: string | undefined): api.Context {
  const parent = parseTraceparent(traceparent);
  if (!parent) return api.ROOT_CONTEXT;
  const { traceId, spanId, sampled } = parent;
  return api.trace.setSpanContext(api.ROOT_CONTEXT, {
    ...{ traceId, spanId, isRemote: true },
    traceFlags: sampled ? api.TraceFlags.SAMPLED : api.TraceFlags.NONE,
  });
}

function samplerOf({ sampler, ratio }: TracingSettings): Sampler {
  const root = sampler.endsWith("always_off")
    ? new AlwaysOffSampler()
    : sampler.endsWith("always_on")
      ? new AlwaysOnSampler()
      : new TraceIdRatioBasedSampler(ratio);
  return sampler.startsWith("parentbased") ? new ParentBasedSampler({ root }) : root;
}

async function exporterOf(settings: TracingSettings): Promise<SpanExporter> {
  const { protocol, url, headers, timeoutMs, queueMax } = settings;
  const { OTLPTraceExporter } =
    protocol === "http/json"
      ? await import("@opentelemetry/exporter-trace-otlp-http")
      : await import("@opentelemetry/exporter-trace-otlp-proto");
  // At the end all that waits is sent at once.
  const concurrencyLimit = 1 + Math.ceil(queueMax / BATCH_MAX);
  return new OTLPTraceExporter({ url, headers, timeoutMillis: timeoutMs, concurrencyLimit });
}

/** Tells of the first of a row of failures. */
function noticing(exporter: SpanExporter, onLost: (error: string) => void): SpanExporter {
  let isLost = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const failed = result.error !== undefined || result.code !== 0;
        if (failed && !isLost) onLost(result.error?.message ?? "the collector did not take them");
        isLost = failed;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
    ...(exporter.forceFlush ? { forceFlush: () => exporter.forceFlush!() } : {}),
  };
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.catch(() => {}), over]);
  clearTimeout(timer);
}
