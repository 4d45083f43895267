/** One request is one trace, from its caller through hub and agent to the engine; and it tells nothing of what was said. */

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Agent, createOpenAiEngine, type Engine } from "@gfe/agent";
import { generateKeyPair } from "@gfe/protocol";
import { parseTracingSettings, startTracing, type Tracing } from "@gfe/tracing";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startRedis, withoutRedis } from "../../hub/src/testing/redis.ts";
import { joinAgent, joinScripted, memoryHost } from "./agents.ts";
import { type Collector, type Seen, startCollector } from "./collector.ts";
import { HubProcess } from "./hub-process.ts";
import { RogueAgent } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const PROMPT = "the-secret-of-the-prompt";
const ANSWER = "the-secret-of-the-answer";
const CALLER = { trace: "0af7651916cd43dd8448eb211c80319c", span: "b7ad6b7169203331" };
const MAIN = fileURLToPath(new URL("../../cli/src/main.ts", import.meta.url));
const SERVER = 2;
const CLIENT = 3;

describe("traces", () => {
  let collector: Collector;
  let world: World;
  let consumer: Person;
  let provider: Person;
  let engine: Awaited<ReturnType<typeof startEngine>>;
  let nodeTracing: Tracing;
  let agents: Agent[];

  beforeAll(async () => {
    collector = await startCollector();
    world = await startWorld({
      ...{ ...collector.env, OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test" },
      GFE_SIGNUP_CREDITS: "1000",
    });
    [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    engine = await startEngine();
    const settings = parseTracingSettings({ ...collector.env, OTEL_SERVICE_NAME: "my-node" });
    if (!settings.ok) throw new Error("the settings are not valid");
    nodeTracing = (await startTracing(settings.settings, { name: "gfe-agent", version: "1" }))!;
    const options = { hubUrl: world.hub.url, token: provider.agentToken };
    agents = [
      await joinAgent([engine.engine], { ...options, tracer: nodeTracing.tracer }),
      await joinScripted(
        { models: [{ name: "twice" }], failure: { type: "refuse", code: "engine_error", message: PROMPT } },
        options,
      ),
      await joinScripted({ models: [{ name: "twice" }] }, options),
    ];
  });
  afterAll(async () => {
    await Promise.all((agents ?? []).map((agent) => agent.stop()));
    await nodeTracing?.close();
    await world?.end();
    await engine?.close();
    await collector?.close();
  });

  const ask = (model: string, headers: Record<string, string> = {}, body: object = {}) =>
    world.call("POST", "/v1/chat/completions", {
      ...{ as: consumer, headers },
      body: {
        ...{ model, max_tokens: 16, temperature: 0.5, messages: [{ role: "user", content: PROMPT }] },
        ...body,
      },
    });
  const spanOf = (name: string, traceId?: string) => collector.span(name, traceId);
  const traceOf = (jobId: string) => {
    const job = collector.spans.find(({ attributes }) => attributes["gfe.job.id"] === jobId);
    return collector.spans.filter(({ traceId }) => traceId === job?.traceId);
  };

  it("a chat is one trace, from its caller's span to the engine", async () => {
    const answer = await ask("served", { traceparent: `00-${CALLER.trace}-${CALLER.span}-01` });
    expect(answer.status).toBe(200);
    const names = [
      "POST /v1/chat/completions",
      ...["chat served", "queue", "hold", "attempt served", "settle"],
    ];
    const come = () => collector.spans.filter(({ traceId }) => traceId === CALLER.trace);
    await until(() => come().length >= 8, "all spans have come");
    const trace = come();
    const hub = trace.filter(({ service }) => service === "gfe-hub");
    const node = trace.filter(({ service }) => service === "my-node");
    expect(hub.map(({ name }) => name).sort()).toEqual([...names].sort());
    expect(node.map(({ name }) => name).sort()).toEqual(["attempt served", "chat served"]);
    const [request, job, queue, hold, attempt, settle] = names.map(
      (name) => hub.find((span) => span.name === name)!,
    ) as [Seen, Seen, Seen, Seen, Seen, Seen];
    const [served, called] = ["attempt served", "chat served"].map(
      (name) => node.find((span) => span.name === name)!,
    ) as [Seen, Seen];
    expect([request.parentSpanId, request.kind]).toEqual([CALLER.span, SERVER]);
    expect(job.parentSpanId).toBe(request.spanId);
    for (const part of [queue, hold, attempt, settle]) expect(part.parentSpanId).toBe(job.spanId);
    expect([attempt.kind, served.parentSpanId, served.kind]).toEqual([CLIENT, attempt.spanId, SERVER]);
    expect([called.parentSpanId, called.kind]).toEqual([served.spanId, CLIENT]);
    expect(engine.headers.at(-1)!.traceparent).toBe(`00-${CALLER.trace}-${called.spanId}-01`);

    expect(job.attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "gpu_for_everyone",
      "gen_ai.request.model": "served",
      "gen_ai.request.max_tokens": 16,
      "gen_ai.request.temperature": 0.5,
      "gen_ai.response.finish_reasons": ["stop"],
      "gen_ai.response.model": "served",
      "gen_ai.usage.input_tokens": 7,
      "gen_ai.usage.output_tokens": 1,
      "gfe.job.id": answer.headers.get("x-gfe-job"),
      "gfe.job.state": "completed",
      "gfe.job.quote_micro": Number(answer.headers.get("x-gfe-quote")),
      "gfe.job.cost_micro": Number(answer.headers.get("x-gfe-cost")),
      "gfe.job.nodes": [answer.headers.get("x-gfe-provider")],
    });
    expect(attempt.attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": "served",
      "gfe.attempt.number": 1,
      "gfe.node.id": agents[0]!.nodeId,
      "gfe.engine.kind": "openai-compatible",
    });
    expect(called.attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "openai-compatible",
      "gen_ai.request.model": "served",
      "gen_ai.usage.input_tokens": 7,
      "gen_ai.usage.output_tokens": 1,
      "server.address": "127.0.0.1",
      "server.port": Number(new URL(engine.url).port),
    });
    expect(request.attributes).toMatchObject({
      "http.request.method": "POST",
      "http.route": "/v1/chat/completions",
      "http.response.status_code": 200,
    });
    expect(request.resource["deployment.environment.name"]).toBe("test");
    for (const span of [attempt, called]) {
      const first = span.events.find(({ name }) => name === "first token")!.atNs;
      expect(first >= span.startNs && first <= span.endNs).toBe(true);
    }
    expect(trace.some(({ isError }) => isError)).toBe(false);
    expect(request.endNs >= settle.endNs).toBe(true);
  });

  it("a stream's trace ends with its last byte", async () => {
    const openai = new OpenAI({ baseURL: `${world.hub.url}/v1`, apiKey: consumer.key, maxRetries: 0 });
    const trace = "1".repeat(32);
    const stream = await openai.chat.completions.create(
      { model: "served", stream: true, messages: [{ role: "user", content: PROMPT }] },
      { headers: { traceparent: `00-${trace}-${CALLER.span}-01` } },
    );
    for await (const _chunk of stream);
    const request = await spanOf("POST /v1/chat/completions", trace);
    const job = collector.spans.find(
      (span) => span.traceId === trace && span.parentSpanId === request.spanId,
    );
    expect(job!.attributes["gen_ai.request.stream"]).toBe(true);
    expect(request.endNs >= job!.endNs).toBe(true);
  });

  it("a fail-over shows each attempt, with what broke the first", async () => {
    const answer = await ask("twice", {}, { provider: { order: [agents[1]!.nodeId, agents[2]!.nodeId] } });
    expect(answer.headers.get("x-gfe-provider")).toBe(agents[2]!.nodeId);
    const jobId = answer.headers.get("x-gfe-job")!;
    await until(() => traceOf(jobId).some(({ kind }) => kind === SERVER), "the request's span has come");
    const [first, second] = traceOf(jobId).filter(({ name }) => name === "attempt twice");
    expect(first!.isError).toBe(true);
    expect(first!.attributes).toMatchObject({ "error.type": "engine_failed", "gfe.attempt.number": 1 });
    expect([second!.isError, second!.attributes["gfe.attempt.number"]]).toEqual([false, 2]);
    expect(first!.attributes["gfe.node.id"]).not.toBe(second!.attributes["gfe.node.id"]);
    expect(first!.parentSpanId).toBe(second!.parentSpanId);
  });

  it("`gfe up` sends its attempts' spans to its owner, at its end at the latest", async () => {
    const directory = mkdtempSync(join(tmpdir(), "gfe-up-"));
    const up = new HubProcess(
      {
        ...{ ...collector.env, OTEL_BSP_SCHEDULE_DELAY: "300000", OTEL_SERVICE_NAME: "rig" },
        ...{ GFE_AGENT_TOKEN: provider.agentToken, GFE_DATA_DIR: directory },
      },
      [process.execPath, MAIN, "up", "--hub", world.hub.url, "--scripted", "--config-dir", directory],
    );
    await up.printed(/Joined/);
    const trace = "5".repeat(32);
    const { status } = await ask("scripted", { traceparent: `00-${trace}-${CALLER.span}-01` });
    expect(status).toBe(200);
    const asked = (service: string) =>
      collector.spans.find((span) => span.traceId === trace && span.service === service);
    await until(() => asked("gfe-hub") !== undefined, "the hub's spans have come");
    expect(asked("rig")).toBeUndefined();
    expect((await up.kill("SIGTERM")).code).toBe(0);
    const { attributes } = collector.spans.find(
      ({ service, name }) => service === "rig" && name === "chat scripted",
    )!;
    expect(attributes["gen_ai.provider.name"]).toBe("scripted");
    rmSync(directory, { recursive: true, force: true });
  });

  it("a caller who does not want its trace kept gets none, and the engine hears so", async () => {
    const trace = "2".repeat(32);
    await ask("served", { traceparent: `00-${trace}-${CALLER.span}-00` });
    expect(engine.headers.at(-1)!.traceparent).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-00$`));
    await ask("served", { traceparent: `00-${"3".repeat(32)}-${CALLER.span}-01` });
    await spanOf("POST /v1/chat/completions", "3".repeat(32));
    expect(collector.spans.filter(({ traceId }) => traceId === trace)).toEqual([]);
  });

  it("a traceparent that is none begins a trace of its own, and harms nothing", async () => {
    for (const traceparent of [
      `00-${"0".repeat(32)}-${CALLER.span}-01`,
      "x".repeat(5_000),
      `ff-${CALLER.trace}`,
    ]) {
      const { status, headers } = await ask("served", { traceparent });
      expect(status).toBe(200);
      const jobId = headers.get("x-gfe-job")!;
      await until(() => traceOf(jobId).some(({ kind }) => kind === SERVER), "its trace has come");
      expect(
        traceOf(jobId).find(({ kind, service }) => kind === SERVER && service === "gfe-hub")!.parentSpanId,
      ).toBe("");
    }
  });

  it("a refused request's trace says why", async () => {
    const trace = "4".repeat(32);
    const { status } = await ask("nobody-has-this", { traceparent: `00-${trace}-${CALLER.span}-01` });
    expect(status).toBe(404);
    const job = await spanOf("chat nobody-has-this", trace);
    expect([job.isError, job.attributes["error.type"]]).toEqual([true, "model_not_found"]);
  });

  it("nothing that was exported has prompts, answers, keys or people in it", async () => {
    const sent = collector.received.join("\n");
    expect(sent.length).toBeGreaterThan(10_000);
    for (const person of [consumer, provider]) {
      const { rows } = await world.pool.query(`SELECT email FROM "user" WHERE id = $1`, [person.userId]);
      const secrets = [rows[0].email, person.userId, person.key, person.agentToken, person.cookie];
      for (const secret of secrets) expect(sent).not.toContain(secret);
    }
    for (const secret of [PROMPT, ANSWER, "gfe_sk_", "gfe_at_", "@example.org"])
      expect(sent).not.toContain(secret);
  });
});

describe.skipIf(withoutRedis)("two hubs", () => {
  it("a trace goes on at a node of the other", async () => {
    const [redis, collector] = [await startRedis(), await startCollector()];
    const world = await startWorld({
      ...{ ...collector.env, REDIS_URL: redis.url, GFE_SECRET: "s".repeat(40) },
      GFE_HUB_KEY: JSON.stringify(await generateKeyPair()),
    });
    const other = await world.another();
    const [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    const node = await RogueAgent.join({ hubUrl: other.url, token: provider.agentToken, model: "there" });
    const body = { model: "there", max_tokens: 4, messages: [{ role: "user", content: PROMPT }] };
    await until(async () => {
      const { body: seen } = await world.call("POST", "/api/v1/match/explain", { as: consumer, body });
      return seen.offers?.length > 0;
    }, "the node is seen");
    const headers = { traceparent: `00-${CALLER.trace}-${CALLER.span}-01` };
    const { status } = await world.call("POST", "/v1/chat/completions", { as: consumer, body, headers });
    expect(status).toBe(200);
    const attempt = await collector.span("attempt there", CALLER.trace);
    expect(node.starts[0]!.traceparent).toBe(`00-${CALLER.trace}-${attempt.spanId}-01`);
    await node.leave();
    await world.end();
    await Promise.all([redis.kill(), collector.close()]);
  });
});

/** A server that speaks OpenAI's API, and keeps the headers it was sent. */
async function startEngine(): Promise<{
  engine: Engine;
  url: string;
  headers: IncomingHttpHeaders[];
  close(): Promise<void>;
}> {
  const headers: IncomingHttpHeaders[] = [];
  const server: Server = createServer(async (request, response) => {
    for await (const _chunk of request);
    if (request.url === "/v1/models")
      return void response.end(JSON.stringify({ object: "list", data: [{ id: "served", object: "model" }] }));
    if (request.url !== "/v1/chat/completions") return void response.writeHead(404).end();
    headers.push(request.headers);
    const usage = { prompt_tokens: 7, completion_tokens: 1, total_tokens: 8 };
    const chunks = [
      { choices: [{ index: 0, delta: { content: ANSWER } }] },
      { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
      { choices: [], usage },
    ];
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const chunk of chunks) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    response.end("data: [DONE]\n\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const engine = createOpenAiEngine({
    ...{ host: memoryHost(), kind: "openai-compatible", address: { baseUrl: url } },
  });
  return {
    ...{ engine, url, headers },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
