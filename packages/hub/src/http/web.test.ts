import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import pino from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createServer } from "./server.ts";
import { registerWeb } from "./web.ts";

const PAGE = "<!doctype html><title>the dashboard</title>";
let dist: string;
const apps: FastifyInstance[] = [];

beforeAll(() => {
  dist = mkdtempSync(join(tmpdir(), "gfe-web-"));
  mkdirSync(join(dist, "web/assets"), { recursive: true });
  writeFileSync(join(dist, "secret.txt"), "outside");
  writeFileSync(join(dist, "web/index.html"), PAGE);
  writeFileSync(join(dist, "web/assets/app-1a2b.js"), "export {};");
});
afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())));
afterAll(() => rmSync(dist, { recursive: true, force: true }));

async function serve(folder = "web", https = false): Promise<FastifyInstance> {
  const log = pino({ level: "silent" });
  const app = createServer({ log, bodyLimitBytes: 1024, trustedProxies: [], https });
  apps.push(app);
  await registerWeb(app, `${join(dist, folder)}/`);
  return app;
}
const get = (app: FastifyInstance, url: string) => app.inject({ method: "GET", url });

describe("an address that is a page's", () => {
  test.each(["/", "/jobs", "/nodes/node_1?tab=models", "/device?user_code=ABCD", "/apidocs", "/v10"])(
    "answers with the dashboard: %s",
    async (url) => {
      const response = await get(await serve(), url);
      expect([response.statusCode, response.body]).toEqual([200, PAGE]);
      expect(response.headers["content-type"]).toMatch("text/html");
      expect(response.headers["cache-control"]).toBe("no-cache");
    },
  );

  test("allows scripts, styles and connections of its own only, and no frame around it", async () => {
    const { headers } = await get(await serve(), "/jobs");
    const policy = new Map(
      String(headers["content-security-policy"])
        .split(";")
        .map((part) => part.trim().split(/ (.*)/s) as [string, string]),
    );
    for (const directive of ["default-src", "script-src", "style-src", "connect-src"])
      expect(policy.get(directive)).toBe("'self'");
    for (const directive of ["frame-ancestors", "object-src", "base-uri"])
      expect(policy.get(directive)).toBe("'none'");
    expect(String(headers["content-security-policy"])).not.toMatch(/unsafe|\*|https?:/);
    expect(headers["x-content-type-options"]).toBe("nosniff");
  });

  test("is kept to HTTPS where the hub is reached by it, and only there", async () => {
    expect((await get(await serve("web", true), "/")).headers["strict-transport-security"]).toMatch(
      /max-age=\d{8}/,
    );
    expect((await get(await serve(), "/")).headers["strict-transport-security"]).toBeUndefined();
  });

  test("is what the policy allows: no script or style is written into the page itself", () => {
    const page = readFileSync(new URL("../../../web/index.html", import.meta.url), "utf8");
    expect(page).not.toMatch(/<style|style=|<script(?![^>]*\ssrc=)|\son\w+=/i);
  });
});

describe("an address that is the API's", () => {
  test.each(["/api", "/api/v2/me", "/api/v1/nothing?x=1", "/agent/v1/other", "/docs/none", "/metrics/x"])(
    "answers with a problem, never with a page: %s",
    async (url) => {
      const response = await get(await serve(), url);
      expect(response.statusCode).toBe(404);
      expect(response.headers["content-type"]).toMatch("application/problem+json");
      expect(response.json()).toMatchObject({ code: "not_found", status: 404 });
    },
  );

  test("answers in OpenAI's shape under /v1", async () => {
    const response = await get(await serve(), "/v1/nothing");
    expect(response.statusCode).toBe(404);
    expect(response.json()).toMatchObject({ error: { code: "not_found", type: "invalid_request_error" } });
  });

  test("does not repeat what was asked for behind the question mark", async () => {
    expect((await get(await serve(), "/api/x?token=hunter2")).body).not.toContain("hunter2");
  });
});

test("nothing but a look answers with a page", async () => {
  const app = await serve();
  for (const method of ["POST", "PUT", "DELETE", "PATCH"] as const)
    expect((await app.inject({ method, url: "/jobs" })).statusCode).toBe(404);
});

describe("built files", () => {
  test("whose names carry their hash are kept for ever", async () => {
    const response = await get(await serve(), "/assets/app-1a2b.js");
    expect([response.statusCode, response.body]).toEqual([200, "export {};"]);
    expect(response.headers["cache-control"]).toBe("public, max-age=31536000, immutable");
    expect(response.headers["content-type"]).toMatch(/\/javascript/);
  });

  test("that are gone are not found: a page in place of a script would break an open tab silently", async () => {
    const response = await get(await serve(), "/assets/app-0000.js");
    expect([response.statusCode, response.json().code]).toEqual([404, "not_found"]);
  });

  test.each(["/../secret.txt", "/..%2fsecret.txt", "/assets/..%2f..%2fsecret.txt", "/%2e%2e/secret.txt"])(
    "are all that is served: %s",
    async (url) => {
      expect((await get(await serve(), url)).body).not.toContain("outside");
    },
  );
});

test("a hub without a built dashboard says so, and its API is none the worse", async () => {
  const app = await serve("missing");
  const page = await get(app, "/");
  expect(page.statusCode).toBe(200);
  expect(page.body).toContain("npm run build");
  expect((await get(app, "/api/v1/nothing")).statusCode).toBe(404);
});
