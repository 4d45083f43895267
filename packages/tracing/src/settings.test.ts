import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseTracingSettings, tracingVariables } from "./settings.ts";
import { formatTraceparent, parseTraceparent } from "./traceparent.ts";

const ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
const on = { [ENDPOINT]: "http://collector:4318" };
const settingsOf = (env: Record<string, string>) => {
  const result = parseTracingSettings(env);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.settings;
};

describe("the standard variables", () => {
  it.each([
    {},
    { OTEL_SERVICE_NAME: "x", OTEL_TRACES_SAMPLER: "nonsense" },
    { [ENDPOINT]: "" },
    { ...on, OTEL_SDK_DISABLED: "TRUE" },
    { ...on, OTEL_TRACES_EXPORTER: "none" },
  ])("ask for no traces: %j", (env) => {
    expect(parseTracingSettings(env)).toEqual({ ok: true, settings: null });
  });

  it("an address alone is enough, and the rest is as the specification says", () => {
    expect(settingsOf(on)).toEqual({
      url: "http://collector:4318/v1/traces",
      protocol: "http/protobuf",
      headers: {},
      serviceName: null,
      resource: {},
      sampler: "parentbased_always_on",
      ratio: 1,
      timeoutMs: 10_000,
      queueMax: 2048,
      delayMs: 5_000,
    });
  });

  it("what is for traces alone goes before what is for all, and its address is taken as it is", () => {
    const settings = settingsOf({
      ...on,
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://other/path",
      OTEL_EXPORTER_OTLP_HEADERS: "a=1",
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: "authorization=Bearer%20x%3D, b = 2 ,",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
      OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json",
    });
    expect(settings).toMatchObject({
      url: "https://other/path",
      headers: { authorization: "Bearer x=", b: "2" },
      protocol: "http/json",
    });
    expect(settingsOf({ [ENDPOINT]: "http://c/base/" })!.url).toBe("http://c/base/v1/traces");
  });

  it.each([
    [ENDPOINT, "collector:4318"],
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "file:///etc/passwd"],
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"],
    ["OTEL_EXPORTER_OTLP_HEADERS", "no pair"],
    ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%zz"],
    ["OTEL_EXPORTER_OTLP_TIMEOUT", "0"],
    ["OTEL_RESOURCE_ATTRIBUTES", "=x"],
    ["OTEL_TRACES_SAMPLER", "jaeger_remote"],
    ["OTEL_TRACES_SAMPLER_ARG", "1.1"],
    ["OTEL_TRACES_EXPORTER", "zipkin"],
    ["OTEL_BSP_MAX_QUEUE_SIZE", "1e9"],
    ["OTEL_BSP_SCHEDULE_DELAY", "soon"],
  ])("a slip is named: %s=%s", (variable, value) => {
    const result = parseTracingSettings({ ...on, [variable]: value });
    expect(result).toEqual({ ok: false, problems: [{ variable, message: expect.any(String) }] });
    expect(tracingVariables.map(({ name }) => name)).toContain(variable);
  });
});

describe("a traceparent", () => {
  it("that was written is read again, whatever its ids", () => {
    const id = (digits: number) =>
      fc
        .array(fc.constantFrom(..."0123456789abcdef"), { minLength: digits, maxLength: digits })
        .map((all) => all.join(""))
        .filter((text) => !/^0+$/.test(text));
    fc.assert(
      fc.property(id(32), id(16), fc.boolean(), (traceId, spanId, sampled) => {
        expect(parseTraceparent(formatTraceparent({ traceId, spanId, sampled }))).toEqual({
          ...{ traceId, spanId, sampled },
        });
      }),
    );
  });

  const [trace, span] = ["a".repeat(32), "b".repeat(16)];
  it.each([
    undefined,
    7,
    "",
    `00-${trace}-${span}`,
    `00-${trace}-${span}-1`,
    `00-${trace}-${span}-01-more`,
    `00-${trace}-${span}-01\n`,
    ` 00-${trace}-${span}-01`,
    `01-${trace}-${span}-01`,
    `ff-${trace}-${span}-01`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${"0".repeat(32)}-${span}-01`,
    `00-${trace}-${"0".repeat(16)}-01`,
  ])("that is none is taken for none: %j", (text) => {
    expect(parseTraceparent(text)).toBeNull();
  });
});
