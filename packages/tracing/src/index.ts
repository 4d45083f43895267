import type { Program } from "./otlp.ts";
import type { TracingSettings } from "./settings.ts";
import type { Tracing } from "./span.ts";

export type { Program } from "./otlp.ts";
export {
  parseTracingSettings,
  type TracingProblem,
  type TracingResult,
  type TracingSettings,
  tracingVariables,
} from "./settings.ts";
export type { Attributes, Span, SpanKind, SpanOptions, Tracer, Tracing } from "./span.ts";

/** Loads OpenTelemetry's SDK and starts to export. Null, and nothing loaded, where no traces are asked for. */
export async function startTracing(
  settings: TracingSettings | null,
  program: Program,
): Promise<Tracing | null> {
  if (!settings) return null;
  const { startOtlp } = await import("./otlp.ts");
  return startOtlp(settings, program);
}
