/**
 * The standard variables of OpenTelemetry, as far as they speak of traces. They are read here, and not by the SDK, so that
 * a slip is named at the start, and so that nothing of the SDK need be loaded to find that nothing is asked for.
 */

export interface TracingVariable {
  name: string;
  meaning: string;
  default: string;
  secret?: boolean;
}

const SAMPLERS = [
  "always_on",
  "always_off",
  "traceidratio",
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio",
] as const;
const PROTOCOLS = ["http/protobuf", "http/json"] as const;
const SAMPLER = "parentbased_always_on";
const TIMEOUT_MS = 10_000;
const QUEUE_MAX = 2_048;
const DELAY_MS = 5_000;

export interface TracingSettings {
  url: string;
  protocol: (typeof PROTOCOLS)[number];
  headers: Record<string, string>;
  /** Null: the program's own name. */
  serviceName: string | null;
  resource: Record<string, string>;
  sampler: (typeof SAMPLERS)[number];
  /** Of traces, 0 to 1, where the sampler is one of ratios. */
  ratio: number;
  /** For one export, with its retries. */
  timeoutMs: number;
  /** Spans that wait to be exported; more are dropped. */
  queueMax: number;
  /** Between two exports. */
  delayMs: number;
}

/** What is set for traces alone goes before what is set for all that an OpenTelemetry SDK may send. */
const otlp = (
  part: string,
  fallback: string,
  meaning: string,
  more: Partial<TracingVariable> = {},
): TracingVariable[] => [
  { name: `OTEL_EXPORTER_OTLP_${part}`, meaning, default: fallback, ...more },
  {
    name: `OTEL_EXPORTER_OTLP_TRACES_${part}`,
    meaning: `The same for traces alone; goes before OTEL_EXPORTER_OTLP_${part}`,
    default: "",
    ...more,
  },
];

/** For pages of documentation; the defaults are those of OpenTelemetry's specification. */
export const tracingVariables: readonly TracingVariable[] = [
  ...otlp(
    "ENDPOINT",
    "",
    "Where traces go, without `/v1/traces`: an OpenTelemetry collector. There are no traces unless it, or the next, is set: see [tracing.md](tracing.md)",
  ),
  ...otlp("PROTOCOL", PROTOCOLS[0], `\`${PROTOCOLS.join("` or `")}\``),
  ...otlp("HEADERS", "", "Headers for the collector: `name=value,name=value`, values percent-encoded", {
    secret: true,
  }),
  ...otlp("TIMEOUT", `${TIMEOUT_MS}`, "Milliseconds for one export, with its retries"),
  { name: "OTEL_SERVICE_NAME", meaning: "What the traces call this program", default: "gfe-hub" },
  {
    name: "OTEL_RESOURCE_ATTRIBUTES",
    meaning: "What else they say of it: `name=value,name=value`, values percent-encoded",
    default: "",
  },
  {
    name: "OTEL_TRACES_SAMPLER",
    meaning: `Which traces are kept: ${SAMPLERS.map((name) => `\`${name}\``).join(", ")}. For a public hub \`traceidratio\`: \`parentbased\` does as callers say`,
    default: SAMPLER,
  },
  {
    name: "OTEL_TRACES_SAMPLER_ARG",
    meaning: "The part of traces that a sampler of ratios keeps, 0 to 1",
    default: "1",
  },
  {
    name: "OTEL_BSP_MAX_QUEUE_SIZE",
    meaning: "Spans that wait to be exported; above it they are dropped",
    default: `${QUEUE_MAX}`,
  },
  { name: "OTEL_BSP_SCHEDULE_DELAY", meaning: "Milliseconds between two exports", default: `${DELAY_MS}` },
  { name: "OTEL_TRACES_EXPORTER", meaning: "`otlp`, or `none` for no traces", default: "otlp" },
  { name: "OTEL_SDK_DISABLED", meaning: "`true` for no traces", default: "false" },
];

export interface TracingProblem {
  variable: string;
  message: string;
}

/** Null where no traces are asked for. */
export type TracingResult =
  | { ok: true; settings: TracingSettings | null }
  | { ok: false; problems: TracingProblem[] };

/** Names every bad value at once. Reads nothing of what is for traces only where none are asked for. */
export function parseTracingSettings(env: Readonly<Record<string, string | undefined>>): TracingResult {
  const value = (name: string) => env[name]?.trim() || undefined;
  const either = (part: string): [variable: string, text: string | undefined] => {
    const [ours, general] = [`OTEL_EXPORTER_OTLP_TRACES_${part}`, `OTEL_EXPORTER_OTLP_${part}`];
    return value(ours) === undefined ? [general, value(general)] : [ours, value(ours)];
  };
  const [variable, endpoint] = either("ENDPOINT");
  if (!endpoint || value("OTEL_SDK_DISABLED")?.toLowerCase() === "true") return { ok: true, settings: null };
  if (value("OTEL_TRACES_EXPORTER") === "none") return { ok: true, settings: null };

  const problems: TracingProblem[] = [];
  const problem = (of: string, message: string) => void problems.push({ variable: of, message });
  const oneOf = <T extends string>(
    [of, text]: [string, string | undefined],
    all: readonly T[],
    other: T,
  ): T => {
    if (text === undefined) return other;
    const found = all.find((each) => each === text.toLowerCase());
    if (!found) problem(of, `must be one of ${all.join(", ")}`);
    return found ?? other;
  };
  const number = ([of, text]: [string, string | undefined], other: number, max: number): number => {
    if (text === undefined) return other;
    const parsed = /^\d{1,9}$/.test(text) ? Number(text) : 0;
    if (parsed < 1 || parsed > max) problem(of, `must be a whole number from 1 to ${max}`);
    return parsed;
  };
  const pairs = ([of, text]: [string, string | undefined]): Record<string, string> => {
    const parsed = parsePairs(text ?? "");
    if (!parsed) problem(of, "must be name=value pairs with commas between them");
    return parsed ?? {};
  };
  const own = (name: string): [string, string | undefined] => [name, value(name)];

  if (!URL.canParse(endpoint) || !/^https?:/i.test(endpoint)) problem(variable, "must be an http(s) address");
  oneOf(own("OTEL_TRACES_EXPORTER"), ["otlp"], "otlp");
  const ratio = value("OTEL_TRACES_SAMPLER_ARG");
  if (ratio !== undefined && !/^(0(\.\d+)?|1(\.0+)?|\.\d+)$/.test(ratio))
    problem("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1");
  const settings: TracingSettings = {
    url: variable.includes("TRACES") ? endpoint : `${endpoint.replace(/\/+$/, "")}/v1/traces`,
    protocol: oneOf(either("PROTOCOL"), PROTOCOLS, PROTOCOLS[0]),
    headers: pairs(either("HEADERS")),
    serviceName: value("OTEL_SERVICE_NAME") ?? null,
    resource: pairs(own("OTEL_RESOURCE_ATTRIBUTES")),
    sampler: oneOf(own("OTEL_TRACES_SAMPLER"), SAMPLERS, SAMPLER),
    ratio: ratio === undefined ? 1 : Number(ratio),
    timeoutMs: number(either("TIMEOUT"), TIMEOUT_MS, 300_000),
    queueMax: number(own("OTEL_BSP_MAX_QUEUE_SIZE"), QUEUE_MAX, 65_536),
    delayMs: number(own("OTEL_BSP_SCHEDULE_DELAY"), DELAY_MS, 300_000),
  };
  return problems.length > 0 ? { ok: false, problems } : { ok: true, settings };
}

/** `a=b,c=d`, values percent-encoded, as W3C Baggage has it. Null where it is not that. */
function parsePairs(text: string): Record<string, string> | null {
  const pairs: Record<string, string> = {};
  for (const part of text.split(",")) {
    if (part.trim() === "") continue;
    const at = part.indexOf("=");
    const name = part.slice(0, Math.max(0, at)).trim();
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) return null;
    try {
      pairs[name] = decodeURIComponent(part.slice(at + 1).trim());
    } catch {
      return null;
    }
  }
  return pairs;
}
