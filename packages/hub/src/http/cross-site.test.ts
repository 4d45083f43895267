/** What a page of another site can make a browser do to the hub: on every route of the document. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { joinNode, type TestNode } from "../testing/test-node.ts";

let hub: TestHub;
let person: Person;
let key: string;
let node: TestNode;
let operations: { method: string; path: string; security?: object[] }[];

beforeAll(async () => {
  hub = await startTestHub();
  person = await hub.signUp();
  ({ key } = await newKey(hub, person, ["inference", "read", "manage"]));
  node = await joinNode(hub.url, (await newAgentToken(hub, await hub.signUp())).secret);
  const { paths } = (await call(hub, "GET /openapi.json")).body as {
    paths: Record<string, Record<string, { security?: object[] }>>;
  };
  operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { security }]) => ({
      method: method.toUpperCase(),
      path: path.replace(/\{\w+\}/g, "x"),
      ...(security ? { security } : {}),
    })),
  );
});
afterAll(async () => {
  await node?.leave();
  await hub?.close();
});

/** A body that every route could take as far as its shape goes, so that the origin alone is what stops it. */
const BODY = {
  model: "m",
  messages: [{ role: "user", content: "hi" }],
  prompt: "hi",
  input: "hi",
  max_tokens: 9,
  label: "stolen",
  url: "https://example.org/",
};
/** Of these no session is asked. */
const OPEN = ["POST /api/v1/device/token", "POST /api/show"];

describe("a session's cookie is of no use to another site,", () => {
  test.each<[string, Record<string, string>]>([
    ["that says who it is", { origin: "https://evil.example" }],
    ["in a sandbox", { origin: "null" }],
    ["whose name begins like the hub's", { origin: "HUB.evil.example" }],
    ["that sends no origin", {}],
  ])("%s, on any route that changes something", async (_what, given) => {
    const origin = given.origin?.replace("HUB", hub.url);
    const headers = { cookie: person.cookie, ...(origin === undefined ? {} : { origin }) };
    const changing = operations.filter(({ method }) => method !== "GET");
    expect(changing.length).toBeGreaterThan(20);
    const count = async () =>
      (
        await hub.pool.query(
          "SELECT (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM agent_tokens) + (SELECT count(*) FROM jobs) AS n",
        )
      ).rows[0].n;
    const before = await count();
    for (const { method, path } of changing) {
      if (OPEN.includes(`${method} ${path}`)) continue;
      for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"]) {
        const { status } = await call(hub, `${method} ${path}`, undefined, BODY, {
          ...headers,
          "content-type": type,
        });
        expect([400, 401, 403, 415], `${method} ${path} ${type} ${status}`).toContain(status);
        // Where a body of this kind is taken at all, it is the origin that is refused.
        if (status === 400)
          expect(await refusedForOrigin(method, path, headers), `${method} ${path}`).toBe(true);
      }
    }
    expect(await count()).toBe(before);
  });

  /** A schema may refuse a body before anybody asks who sends it: then that route is tried with what it wants. */
  async function refusedForOrigin(
    method: string,
    path: string,
    headers: Record<string, string>,
  ): Promise<boolean> {
    const right: Record<string, object> = {
      "/api/v1/keys": { label: "stolen", scopes: ["read"] },
      "/api/v1/agent-tokens": { label: "stolen" },
      "/api/v1/webhooks": { url: "https://example.org/", events: ["job.completed"] },
      "/api/v1/prices": { price: { per_request: "1", per_million_input: "0", per_million_output: "0" } },
      "/api/v1/device/x": { approve: true },
      "/api/v1/jobs": { kind: "chat", body: { model: "m", messages: BODY.messages } },
      "/api/computing/submit-job/": { model_name: "m", prompt: "hi" },
    };
    const body = right[path] ?? BODY;
    if ((await call(hub, `${method} ${path}`, undefined, body, headers)).status === 403) return true;
    // Nobody got as far as to be asked: with the right origin it is the same.
    return (await call(hub, `${method} ${path}`, { cookie: person.cookie }, body)).status === 400;
  }

  test("nor do its log-in's own routes act for another site", async () => {
    for (const path of [
      "sign-out",
      "update-user",
      "change-password",
      "delete-user",
      "revoke-sessions",
      "device/approve",
    ]) {
      const { status } = await call(
        hub,
        `POST /api/auth/${path}`,
        undefined,
        { name: "x", userCode: "ABCD" },
        {
          cookie: person.cookie,
          origin: "https://evil.example",
        },
      );
      expect([400, 401, 403, 404], `${path} ${status}`).toContain(status);
    }
    expect((await call(hub, "GET /api/v1/me", { cookie: person.cookie })).status).toBe(200);
  });

  test("and no answer invites a script of another site to read it", async () => {
    for (const { method, path } of operations.filter(({ path }) => path !== "/api/v1/live")) {
      const { headers } = await call(
        hub,
        `${method} ${path}`,
        undefined,
        method === "GET" ? undefined : BODY,
        {
          cookie: person.cookie,
          origin: "https://evil.example",
        },
      );
      expect(headers.get("access-control-allow-origin"), path).toBeNull();
    }
  });
});

test("every answer forbids a browser what it does not need, whatever its route and status", async () => {
  const urls = [
    "/",
    "/jobs",
    "/none.js",
    "/docs/",
    "/openapi.json",
    "/v1/none",
    "/api/none",
    "/agent/v1/link",
    "/api/auth/get-session",
    "/%E0%A4%A",
  ];
  const asked = [
    ...operations.map(({ method, path }) => `${method} ${path}`),
    ...urls.map((url) => `GET ${url}`),
  ];
  for (const request of asked) {
    const [method, path] = request.split(" ") as [string, string];
    const response = await fetch(hub.url + path, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        ...(method === "GET" ? {} : { "content-type": "application/json" }),
      },
      ...(method === "GET" ? {} : { body: JSON.stringify({ ...BODY, stream: true }) }),
    });
    await response.body?.cancel();
    const policy = response.headers.get("content-security-policy") ?? "";
    expect(response.headers.get("x-content-type-options"), `${request} ${response.status}`).toBe("nosniff");
    expect(policy, `${request} ${response.status}`).toMatch(/default-src '(self|none)'/);
    expect(policy, request).toContain("frame-ancestors 'none'");
    expect(policy, request).not.toMatch(/unsafe|\*|https?:/);
  }
});

test("a streamed answer, and one that failed before its stream began, forbid the same", async () => {
  for (const model of ["m", "none"]) {
    const { headers } = await call(
      hub,
      "POST /v1/chat/completions",
      { key },
      { model, stream: true, messages: BODY.messages },
    );
    expect(headers.get("content-security-policy")).toBe("default-src 'none'; frame-ancestors 'none'");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
  }
});
