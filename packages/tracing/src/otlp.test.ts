import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseTracingSettings, startTracing, type Tracing } from "./index.ts";
import { CLOSE_MS } from "./span.ts";

let server: Server;
let bodies: Buffer[];
let headers: IncomingHttpHeaders[];
/** Null: it never answers. */
let status: number | null;
let lost: string[];

beforeEach(async () => {
  [bodies, headers, status, lost] = [[], [], 200, []];
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    bodies.push(Buffer.concat(chunks));
    headers.push(request.headers);
    if (status !== null) response.writeHead(status, { "content-type": "application/json" }).end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function start(env: Record<string, string> = {}): Promise<Tracing> {
  const { port } = server.address() as AddressInfo;
  const parsed = parseTracingSettings({
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    ...env,
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const program = { name: "test", version: "1", onLost: (error: string) => void lost.push(error) };
  return (await startTracing(parsed.settings, program))!;
}
const received = () => Buffer.concat(bodies).toString("utf8");
const count = (text: string) => received().split(text).length - 1;
const secondsOf = async (work: Promise<void>): Promise<number> => {
  const startedMs = performance.now();
  await work;
  return (performance.now() - startedMs) / 1000;
};

describe("spans", () => {
  it("are sent in OpenTelemetry's two encodings, and at the end at the latest", async () => {
    for (const [protocol, type] of [
      ["http/json", "application/json"],
      ["http/protobuf", "application/x-protobuf"],
    ] as const) {
      const tracing = await start({ OTEL_EXPORTER_OTLP_PROTOCOL: protocol });
      tracing.tracer.start(`in ${protocol}`).end();
      await tracing.close();
      expect(headers.at(-1)!["content-type"]).toBe(type);
      expect(count(`in ${protocol}`)).toBe(1);
    }
  });

  it("come with the headers that were set, and what else is said of the program", async () => {
    const tracing = await start({
      OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20secret",
      OTEL_RESOURCE_ATTRIBUTES: "service.name=from-attributes,zone=a%20b",
    });
    tracing.tracer.start("any").end();
    await tracing.close();
    expect(headers.at(-1)!.authorization).toBe("Bearer secret");
    for (const said of ["from-attributes", '"a b"', "service.version"]) expect(received()).toContain(said);
    expect(received()).not.toContain("secret");
  });

  it("that are not sampled are not sent, and say so to whoever is asked next", async () => {
    const tracing = await start({ OTEL_TRACES_SAMPLER: "always_off" });
    const span = tracing.tracer.start("unseen", { traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01` });
    const child = span.child("unseen too");
    expect(child.traceparent).toMatch(new RegExp(`^00-${"a".repeat(32)}-[0-9a-f]{16}-00$`));
    expect([span.sampled, child.sampled]).toEqual([false, false]);
    child.set({ a: 1 });
    child.fail("x");
    child.end();
    span.end();
    await tracing.close();
    expect(bodies).toEqual([]);
  });

  it("of a ratio are sampled by the trace, whatever its caller asks for", async () => {
    const tracing = await start({ OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0" });
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    expect(tracing.tracer.start("forced", { traceparent }).sampled).toBe(false);
    await tracing.close();
  });

  it("may be ended twice and said more of, to no effect", async () => {
    const tracing = await start();
    const span = tracing.tracer.start("once");
    span.end();
    span.set({ late: "late" });
    span.fail("late");
    span.event("late", 0);
    span.end();
    await tracing.close();
    expect([count('"once"'), count("late")]).toEqual([1, 0]);
  });

  it("have long texts cut", async () => {
    const tracing = await start();
    tracing.tracer.start("y".repeat(10_000), { attributes: { text: "x".repeat(10_000) } }).end();
    await tracing.close();
    for (const text of [/x{9,}/, /y{9,}/]) expect(text.exec(received())![0]).toHaveLength(256);
  });
});

describe("a collector", () => {
  it("that never answers costs a bounded number of spans and a bounded time at the end", async () => {
    status = null;
    const tracing = await start({ OTEL_BSP_MAX_QUEUE_SIZE: "64", OTEL_BSP_SCHEDULE_DELAY: "1" });
    const rounds = 50;
    for (let round = 0; round < rounds; round++) {
      for (let n = 0; n < 100; n++) tracing.tracer.start("many").end();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await secondsOf(tracing.close())).toBeLessThan(CLOSE_MS / 1000 + 1);
    // One export on its way, and those that waited.
    expect(count('"many"')).toBeLessThanOrEqual(2 * 64);
  });

  it("that is away costs no more", async () => {
    const tracing = await start({
      // Nobody listens at the port that IANA keeps for discarding.
      ...{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9", OTEL_BSP_MAX_QUEUE_SIZE: "64" },
    });
    for (let n = 0; n < 1_000; n++) tracing.tracer.start("lost").end();
    expect(await secondsOf(tracing.close())).toBeLessThan(CLOSE_MS / 1000 + 1);
  });

  it("that refuses spans is told of once until it takes some again", async () => {
    status = 400;
    const tracing = await start({ OTEL_BSP_SCHEDULE_DELAY: "1" });
    const sent = async (name: string) => {
      tracing.tracer.start(name).end();
      while (count(`"${name}"`) === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    };
    await sent("first");
    await sent("second");
    await sent("third");
    expect(lost).toHaveLength(1);
    status = 200;
    await sent("fourth");
    await sent("fifth");
    status = 400;
    await sent("sixth");
    await tracing.close();
    expect(lost).toHaveLength(2);
  });
});
