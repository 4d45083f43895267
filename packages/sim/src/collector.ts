/** An OpenTelemetry collector in this process, for tests: takes OTLP over HTTP as JSON and keeps the spans. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { until } from "./world.ts";

export interface Seen {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  /** 1 internal, 2 server, 3 client. */
  kind: number;
  startNs: bigint;
  endNs: bigint;
  attributes: Record<string, unknown>;
  events: { name: string; atNs: bigint }[];
  isError: boolean;
  /** `service.name`. */
  service: string;
  resource: Record<string, unknown>;
}

export interface Collector {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly url: string;
  /** What a hub or an agent is given to send its spans here, soon. */
  readonly env: Record<string, string>;
  readonly spans: Seen[];
  /** All that came, byte for byte. */
  readonly received: string[];
  /** `silent` takes what comes and never answers. */
  mode: "well" | "silent";
  /** Resolves to the one span of that name, when it has come. */
  span(name: string, traceId?: string): Promise<Seen>;
  close(): Promise<void>;
}

export async function startCollector(): Promise<Collector> {
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    self.received.push(text);
    self.spans.push(...spansOf(JSON.parse(text)));
    if (self.mode === "well") response.writeHead(200, { "content-type": "application/json" }).end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const self: Collector = {
    url,
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "20",
    },
    spans: [],
    received: [],
    mode: "well",
    async span(name, traceId) {
      const found = () =>
        self.spans.filter((span) => span.name === name && (traceId ?? span.traceId) === span.traceId);
      await until(() => found().length > 0, `a span named ${name} comes`);
      if (found().length > 1) throw new Error(`${found().length} spans are named ${name}`);
      return found()[0]!;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return self;
}

interface Value {
  stringValue?: string;
  intValue?: string | number;
  doubleValue?: number;
  boolValue?: boolean;
  arrayValue?: { values?: Value[] };
}
type KeyValues = { key: string; value: Value }[];

interface ExportRequest {
  resourceSpans: {
    resource: { attributes: KeyValues };
    scopeSpans: {
      spans: (Pick<Seen, "traceId" | "spanId" | "name" | "kind"> & {
        parentSpanId?: string;
        startTimeUnixNano: string;
        endTimeUnixNano: string;
        attributes: KeyValues;
        events: { name: string; timeUnixNano: string }[];
        status: { code?: number };
      })[];
    }[];
  }[];
}

const STATUS_ERROR = 2;

function spansOf({ resourceSpans }: ExportRequest): Seen[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const of = recordOf(resource.attributes);
    return scopeSpans.flatMap(({ spans }) =>
      spans.map(({ traceId, spanId, name, kind, ...span }) => ({
        ...{ traceId, spanId, name, kind },
        parentSpanId: span.parentSpanId ?? "",
        startNs: BigInt(span.startTimeUnixNano),
        endNs: BigInt(span.endTimeUnixNano),
        attributes: recordOf(span.attributes),
        events: span.events.map((event) => ({ name: event.name, atNs: BigInt(event.timeUnixNano) })),
        isError: span.status.code === STATUS_ERROR,
        service: String(of["service.name"]),
        resource: of,
      })),
    );
  });
}

const recordOf = (pairs: KeyValues): Record<string, unknown> =>
  Object.fromEntries(pairs.map(({ key, value }) => [key, plain(value)]));

function plain(value: Value): unknown {
  if (value.arrayValue) return (value.arrayValue.values ?? []).map(plain);
  return (
    value.stringValue ??
    value.doubleValue ??
    value.boolValue ??
    (value.intValue === undefined ? undefined : Number(value.intValue))
  );
}
