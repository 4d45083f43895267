import { GfeError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import pino from "pino";
import { afterEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { createServer, type ServerOptions } from "./server.ts";

const apps: FastifyInstance[] = [];
afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())));

const logged: string[] = [];
function serve(options: Partial<ServerOptions> = {}): FastifyInstance {
  logged.length = 0;
  const log = pino({ level: "debug" }, { write: (line: string) => void logged.push(line) });
  const app = createServer({ log, bodyLimitBytes: 100, trustedProxies: [], https: false, ...options });
  apps.push(app);
  const broken = async () => {
    throw new Error("the password is hunter2");
  };
  const slow = async () => {
    throw new GfeError("overloaded", undefined, { retryAfterS: 7, cause: new Error("hunter2") });
  };
  for (const root of ["/v1", "/api/v1"]) {
    app.get(`${root}/broken`, broken);
    app.get(`${root}/slow`, slow);
    app.post(`${root}/echo`, { schema: { body: z.object({ name: z.string() }) } }, async ({ body }) => body);
    app.get(`${root}/address`, async ({ ip, protocol }) => ({ ip, protocol }));
  }
  return app;
}
const post = (app: FastifyInstance, payload: string, type = "application/json", url = "/api/v1/echo") =>
  app.inject({ method: "POST", url, payload, headers: { "content-type": type } });

describe("a bug", () => {
  test.each(["/v1/broken", "/api/v1/broken"])(
    "tells its caller nothing, and the log everything by the request's id: %s",
    async (url) => {
      const { statusCode, body, headers } = await serve().inject(url);
      expect(statusCode).toBe(500);
      expect(body).toContain("Something broke on our side");
      expect(body).not.toContain("hunter2");
      const line = logged.find((text) => text.includes("request failed"));
      expect(line).toContain("hunter2");
      expect(line).toContain(headers["x-request-id"]);
    },
  );
});

describe("a fault is told in the dialect of its address", () => {
  test("OpenAI's on /v1", async () => {
    const { statusCode, headers, body } = await serve().inject("/v1/slow");
    expect([statusCode, headers["retry-after"]]).toEqual([503, "7"]);
    expect(JSON.parse(body)).toEqual({
      error: { message: "The hub is overloaded", type: "server_error", param: null, code: "overloaded" },
    });
  });

  test("a problem elsewhere", async () => {
    const { statusCode, headers, body } = await serve().inject("/api/v1/slow");
    expect([statusCode, headers["retry-after"]]).toEqual([503, "7"]);
    expect(headers["content-type"]).toMatch("application/problem+json");
    expect(JSON.parse(body)).toMatchObject({
      status: 503,
      code: "overloaded",
      type: "urn:gfe:error:overloaded",
    });
    expect(body).not.toContain("hunter2");
  });
});

test.each(["/api/v1/%", "/%E0%A4%A"])(
  "an address that cannot be read is a fault like others: %s",
  async (url) => {
    const response = await serve().inject(url);
    expect(response.statusCode).toBe(400);
    expect(response.json()).toMatchObject({ code: "invalid_request", type: "urn:gfe:error:invalid_request" });
    expect((await serve().inject("/v1/%")).json()).toMatchObject({ error: { code: "invalid_request" } });
  },
);

describe("a body", () => {
  test.each<[string, string, string, number, string]>([
    ["that is too large", `{"name":"${"x".repeat(200)}"}`, "application/json", 413, "body_too_large"],
    ["that is not JSON", "{name}", "application/json", 400, "invalid_json"],
    ["that is empty", "", "application/json", 400, "invalid_json"],
    [
      "that would poison prototypes",
      '{"__proto__":{"a":1},"name":"x"}',
      "application/json",
      400,
      "invalid_json",
    ],
    ["of another kind", "name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"],
    ["of text", '{"name":"x"}', "text/plain", 415, "unsupported_media_type"],
    ["that lacks a field", "{}", "application/json", 400, "invalid_request"],
  ])("%s is refused", async (_name, payload, type, status, code) => {
    const app = serve();
    const problem = await post(app, payload, type);
    expect([problem.statusCode, problem.json().code]).toEqual([status, code]);
    const openAi = await post(app, payload, type, "/v1/echo");
    expect([openAi.statusCode, openAi.json().error.code]).toEqual([status, code]);
  });

  test("is in no log, not even of what went wrong", async () => {
    await post(serve(), '{"prompt":"my secret"');
    await post(serve(), '{"name":["my secret"]}');
    expect(logged.join("")).not.toContain("my secret");
  });
});

describe("the caller's address", () => {
  const ask = async (app: FastifyInstance, remoteAddress: string) =>
    (
      await app.inject({
        url: "/api/v1/address",
        remoteAddress,
        headers: { "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https" },
      })
    ).json();

  test("is what the socket says, whatever a header claims", async () => {
    expect(await ask(serve(), "10.0.0.5")).toEqual({ ip: "10.0.0.5", protocol: "http" });
  });

  test("is what a trusted proxy says, and no other", async () => {
    const app = serve({ trustedProxies: ["10.0.0.0/8"] });
    expect(await ask(app, "10.0.0.5")).toMatchObject({ ip: "203.0.113.9" });
    expect(await ask(app, "192.0.2.1")).toMatchObject({ ip: "192.0.2.1" });
  });
});

test("answers that are no model's carry what keeps a browser safe", async () => {
  const { headers } = await serve({ https: true }).inject("/api/v1/address");
  expect(headers).toMatchObject({
    "content-security-policy": expect.stringContaining("default-src 'self'"),
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "strict-transport-security": expect.stringContaining("max-age="),
  });
});
