import type { FastifyInstance, RouteOptions } from "fastify";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { registerAnthropic } from "./anthropic/routes.ts";
import { registerAuth } from "./auth-routes.ts";
import { registerBatchApi } from "./batch/batch.ts";
import { registerDownloads } from "./downloads/routes.ts";
import { registerForerunner } from "./forerunner.ts";
import { registerInference } from "./inference/routes.ts";
import { registerOllama } from "./ollama/routes.ts";
import { registerOpenApi } from "./openapi.ts";
import { registerOps } from "./ops.ts";
import { registerResponses } from "./responses/routes.ts";
import { registerRest } from "./rest/rest.ts";
import { routeDocs } from "./route-docs.ts";
import { createServer } from "./server.ts";

type Json = Record<string, unknown>;
interface Operation extends Json {
  operationId: string;
  summary?: string;
  tags?: string[];
  security?: object[];
  parameters?: { name: string; in: string; required?: boolean; schema: object }[];
  requestBody?: { required?: boolean; content: Record<string, { schema: Json }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
}

let app: FastifyInstance;
let document: Json & { paths: Record<string, Record<string, Operation>>; components: { schemas: Json } };
const routes: RouteOptions[] = [];
/** As the document writes addresses. */
const pathOf = (url: string): string => url.replace("*", ":model").replace(/:(\w+)/g, "{$1}");
const operations = (): [string, Operation][] =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): [string, Operation] => [
      `${method.toUpperCase()} ${path}`,
      operation,
    ]),
  );

beforeAll(async () => {
  const unused = {} as never;
  app = createServer({
    log: pino({ level: "silent" }),
    bodyLimitBytes: 1024,
    trustedProxies: [],
    https: false,
  });
  app.addHook("onRoute", (route) => void routes.push(route));
  await registerOpenApi(app, "1.2.3");
  const gauges = {
    nodes: () => 0,
    running: () => 0,
    queued: () => 0,
    peers: () => 0,
    settlementBacklog: () => 0,
    lastBackupS: () => 0,
  };
  registerOps(app, {
    pool: unused,
    draining: () => false,
    gauges,
    background: () => [],
    models: () => [],
    ledger: () => null,
  });
  registerAuth(app, unused, "http://hub.example");
  registerDownloads(app, { directory: "/nowhere", hubUrl: "http://hub.example" });
  await app.register(async (scope) => {
    registerInference(scope, unused);
    registerBatchApi(scope, unused);
    registerResponses(scope, unused);
    registerAnthropic(scope, unused);
    registerOllama(scope, unused);
    registerRest(scope, unused);
    registerForerunner(scope, unused);
  });
  await app.ready();
  document = (await app.inject("/openapi.json")).json();
});
afterAll(() => app?.close());

test("every route is in the document, but for log-in's own and the document's", () => {
  const hidden = /^\/(api\/auth\/\*|openapi\.json|docs(\/.*)?)$/;
  const expected = routes
    .filter(({ url }) => !hidden.test(url))
    .flatMap(({ method, url }) => [method].flat().map((one) => `${one} ${pathOf(url)}`))
    .filter((route) => !route.startsWith("HEAD "));
  expect(expected.length).toBeGreaterThan(25);
  expect(
    operations()
      .map(([name]) => name)
      .sort(),
  ).toEqual([...new Set(expected)].sort());
});

test("nothing is said of routes that there are not", () => {
  const known = new Set(routes.flatMap(({ method, url }) => [method].flat().map((one) => `${one} ${url}`)));
  expect(Object.keys(routeDocs).filter((route) => !known.has(route))).toEqual([]);
});

describe("the document is valid OpenAPI 3.1", () => {
  test("says what it is", () => {
    expect(document).toMatchObject({
      openapi: "3.1.0",
      info: { title: "GPU For Everyone", version: "1.2.3" },
    });
    expect(document).not.toHaveProperty("swagger");
  });

  test("every operation has an id of its own, a summary, a tag and described answers", () => {
    const ids = operations().map(([, { operationId }]) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [name, { operationId, summary, tags, responses }] of operations()) {
      expect(operationId, name).toMatch(/^[a-z][A-Za-z0-9]+$/);
      expect([name, summary?.length, tags?.length]).toEqual([name, expect.any(Number), 1]);
      for (const [status, response] of Object.entries(responses)) {
        expect(status, name).toMatch(/^(default|[1-5]\d\d)$/);
        expect(response.description, name).toEqual(expect.any(String));
      }
    }
  });

  test("every name in an address is a required parameter of it, and there is no other in the path", () => {
    for (const [name, { parameters = [] }] of operations()) {
      const inPath = parameters.filter((parameter) => parameter.in === "path");
      expect(inPath.map((parameter) => parameter.name)).toEqual(
        [...name.matchAll(/\{([^}]+)\}/g)].map(([, parameter]) => parameter),
      );
      for (const parameter of parameters) {
        expect(["path", "query", "header", "cookie"]).toContain(parameter.in);
        expect(parameter.schema, `${name} ${parameter.name}`).toBeTypeOf("object");
        if (parameter.in === "path") expect(parameter.required).toBe(true);
      }
    }
  });

  test("every reference leads somewhere, and no schema uses words of OpenAPI 3.0", () => {
    walk(document, (node) => {
      expect(node).not.toHaveProperty("nullable");
      if (typeof node.exclusiveMinimum === "boolean") throw new Error("exclusiveMinimum is a boolean");
      if (typeof node.$ref !== "string") return;
      const target = node.$ref
        .replace(/^#\//, "")
        .split("/")
        .reduce<unknown>((at, part) => (at as Json | undefined)?.[part], document);
      expect(target, node.$ref).toBeTypeOf("object");
    });
  });

  test("every credential that is asked for is explained", () => {
    const schemes = Object.keys(
      (document.components as unknown as { securitySchemes: Json }).securitySchemes,
    );
    for (const security of [
      document.security as object[],
      ...operations().map(([, of]) => of.security ?? []),
    ])
      for (const requirement of security)
        for (const scheme of Object.keys(requirement)) expect(schemes).toContain(scheme);
  });
});

describe("the document is of use", () => {
  test("whatever takes a body shows it, field by field", () => {
    for (const [name, { requestBody }] of operations()) {
      if (!/^(POST|PUT) /.test(name) || name.endsWith("/cancel")) expect(requestBody, name).toBeUndefined();
      else {
        const type = name === "POST /v1/files" ? "multipart/form-data" : "application/json";
        const schema = requestBody?.content[type]?.schema;
        expect([name, schema?.type]).toEqual([name, "object"]);
        expect(Object.keys(schema!.properties as Json).length, name).toBeGreaterThan(0);
      }
    }
  });

  test("the body of a chat is the one that is checked", () => {
    const { content } = document.paths["/v1/chat/completions"]!.post!.requestBody!;
    const schema = content["application/json"]!.schema as { required: string[]; properties: Json };
    expect(schema.required).toEqual(["model", "messages"]);
    expect(schema.properties).toMatchObject({ temperature: expect.anything(), tools: { type: "array" } });
    expect(schema).toMatchObject({ additionalProperties: false });
  });

  test("every operation shows what it answers, and how it fails in the dialect of its address", () => {
    for (const [name, { responses, tags }] of operations()) {
      const good = Object.entries(responses).find(([status]) => status.startsWith("2"))!;
      if (good[0] !== "204") expect(Object.keys(good[1].content ?? {}).length, name).toBeGreaterThan(0);
      const byTag = { anthropic: "AnthropicError", ollama: "OllamaError" }[tags?.[0] ?? ""];
      const [type, schema] = byTag
        ? ["application/json", byTag]
        : name.includes(" /v1/")
          ? ["application/json", "OpenAiError"]
          : ["application/problem+json", "Problem"];
      expect(responses.default?.content).toEqual({
        [type]: { schema: { $ref: `#/components/schemas/${schema}` } },
      });
    }
  });

  test("a chat's answer is shown whole and as a stream", () => {
    const { content } = document.paths["/v1/chat/completions"]!.post!.responses[200]!;
    expect(Object.keys(content!)).toEqual(["application/json", "text/event-stream"]);
  });

  test("what anybody may ask wants no credentials, all else does", () => {
    const open = operations()
      .filter(([, { security }]) => security?.length === 0)
      .map(([name]) => name);
    expect(open.sort()).toEqual([
      "GET /api/computing/models/",
      "GET /api/computing/stats/",
      "GET /api/ps",
      "GET /api/tags",
      "GET /api/v1/config",
      "GET /api/v1/live",
      "GET /api/v1/market",
      "GET /api/v1/nodes/{id}/reputation",
      "GET /api/version",
      "GET /download/files/{name}",
      "GET /download/manifest.json",
      "GET /download/manifest.json.minisig",
      "GET /healthz",
      "GET /install.ps1",
      "GET /install.sh",
      "GET /metrics",
      "GET /readyz",
      "GET /v1/models",
      "GET /v1/models/{model}",
      "POST /api/show",
      "POST /api/v1/device/token",
    ]);
  });
});

describe("the page to read it", () => {
  test("is served with all that it loads, over plain HTTP too", async () => {
    const page = await app.inject("/docs/");
    expect([page.statusCode, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"]);
    expect(page.body).toContain("<title>GPU For Everyone: API</title>");
    const files = [...page.body.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map(([, file]) => `/docs/${file}`);
    expect(files.length).toBeGreaterThan(4);
    for (const file of [...files, "/docs/json"])
      expect([file, (await app.inject(file)).statusCode]).toEqual([file, 200]);
    expect((await app.inject("/docs/json")).json()).toEqual(document);
  });

  test("loads nothing from elsewhere, and no browser is sent to an HTTPS that may not be there", async () => {
    const policy = String((await app.inject("/docs/")).headers["content-security-policy"]);
    expect(policy).toMatch("default-src 'self'");
    expect(policy).not.toMatch(/https?:|unsafe|upgrade-insecure-requests|swagger\.io/);
    const settings = (await app.inject("/docs/static/swagger-initializer.js")).body;
    expect(settings).toMatch(/"validatorUrl":\s*null/);
    expect((await app.inject("/docs/")).body).not.toMatch(/<script>|<style|\son\w+=/);
  });
});

function walk(node: unknown, visit: (node: Json) => void): void {
  if (node === null || typeof node !== "object") return;
  if (!Array.isArray(node)) visit(node as Json);
  for (const child of Object.values(node)) walk(child, visit);
}
