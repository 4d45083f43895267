import type { AddressInfo } from "node:net";
import { GfeError } from "@gfe/protocol";
import type { Attributes, Span, Tracer } from "@gfe/tracing";
import type { FastifyInstance } from "fastify";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createServer } from "../http/server.ts";
import { traceRequests } from "./request-trace.ts";

interface Kept {
  name: string;
  traceparent: string | undefined;
  attributes: Attributes;
  failed: string | null;
  ended: Promise<void>;
}

/** Keeps the spans it is asked for. */
function keeping(kept: Kept[]): Tracer {
  return {
    start(name, { traceparent, attributes = {} } = {}) {
      const ended = Promise.withResolvers<void>();
      const of: Kept = {
        ...{ name, traceparent, attributes: { ...attributes }, failed: null },
        ended: ended.promise,
      };
      kept.push(of);
      const span: Span = {
        traceId: "f".repeat(32),
        traceparent: "",
        sampled: true,
        child: () => span,
        set: (more) => void Object.assign(of.attributes, more),
        event() {},
        fail(error) {
          of.failed = error;
        },
        end: () => ended.resolve(),
      };
      return span;
    },
  };
}

let app: FastifyInstance;
let lines: Record<string, unknown>[];
let spans: Kept[];
let url: string;
let hanging: PromiseWithResolvers<void>;

async function start(tracer: Tracer | undefined): Promise<void> {
  [lines, spans, hanging] = [[], [], Promise.withResolvers()];
  const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  app = createServer({ log, bodyLimitBytes: 1000, trustedProxies: [], https: false });
  traceRequests(app, tracer);
  app.post("/things/:id", async () => ({ ok: true }));
  app.get("/things/:id", async () => ({ ok: true }));
  app.post("/broken", async () => {
    throw new Error("inside");
  });
  app.post("/refused", async () => {
    throw new GfeError("invalid_request");
  });
  app.post("/hangs", async () => {
    hanging.resolve();
    await new Promise(() => {});
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}
afterEach(() => app.close());

const post = (path: string, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  fetch(url + path, { method: "POST", headers, ...(signal ? { signal } : {}) });

describe("the span of a request", () => {
  beforeEach(async () => {
    const kept: Kept[] = [];
    await start(keeping(kept));
    spans = kept;
  });

  it("is named by its route, goes on with its caller's trace and ends with its answer", async () => {
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    const { headers } = await post("/things/secret-id", { traceparent });
    const [span] = spans;
    await span!.ended;
    expect(span).toMatchObject({ name: "POST /things/:id", traceparent, failed: null });
    expect(span!.attributes).toEqual({
      "http.request.method": "POST",
      "http.route": "/things/:id",
      "http.response.status_code": 200,
      "gfe.request.id": headers.get("x-request-id"),
    });
  });

  it("fails where we do, and not where the caller is at fault", async () => {
    await post("/broken");
    await post("/refused");
    await Promise.all(spans.map(({ ended }) => ended));
    expect(spans.map(({ failed }) => failed)).toEqual(["500", null]);
    expect(spans.map(({ attributes }) => attributes["http.response.status_code"])).toEqual([500, 400]);
  });

  it("ends where its caller hangs up", async () => {
    const controller = new AbortController();
    const asked = post("/hangs", {}, controller.signal).catch(() => {});
    await hanging.promise;
    controller.abort();
    await asked;
    await spans[0]!.ended;
    expect(spans[0]!.attributes["gfe.request.caller_left"]).toBe(true);
    expect(spans[0]!.attributes).not.toHaveProperty("http.response.status_code");
  });

  it("names its trace in the request's log lines", async () => {
    await post("/broken");
    expect(lines.filter(({ msg }) => msg === "request failed")).toMatchObject([{ trace_id: "f".repeat(32) }]);
  });

  it("is none for what only reads", async () => {
    await fetch(`${url}/things/1`);
    expect(spans).toEqual([]);
  });
});

it("without a tracer no request is touched", async () => {
  await start(undefined);
  await post("/broken");
  expect(lines.filter(({ msg }) => msg === "request failed")[0]).not.toHaveProperty("trace_id");
});
