/** Whatever is sent to a route of the document, it answers in its dialect, and never with a fault of its own. */
import { JSON_DEPTH_MAX } from "@gfe/protocol";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { joinNode, type TestNode } from "../testing/test-node.ts";
import { dialectOf } from "./dialects.ts";

type Schema = {
  [word: string]: unknown;
  type?: string | string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  enum?: unknown[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  const?: unknown;
};
interface Operation {
  parameters?: { name: string; in: string }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

let hub: TestHub;
let person: Person;
let key: string;
let node: TestNode;
let operations: { method: string; path: string; operation: Operation }[];
/** Bodies that are right, for the routes whose schema says little. */
const BODIES: Record<string, object> = {
  "/v1/chat/completions": {
    model: "m",
    messages: [{ role: "user", content: "hi" }],
    stream: false,
    max_tokens: 9,
  },
  "/v1/completions": { model: "m", prompt: "hi", max_tokens: 9 },
  "/v1/embeddings": { model: "m", input: ["a", "b"] },
  "/v1/responses": { model: "m", input: "hi", max_output_tokens: 9, metadata: { a: "b" } },
  "/v1/messages": { model: "m", max_tokens: 9, system: "s", messages: [{ role: "user", content: "hi" }] },
  "/api/chat": {
    model: "m",
    messages: [{ role: "user", content: "hi" }],
    stream: false,
    options: { num_predict: 9 },
  },
  "/api/generate": { model: "m", prompt: "hi", stream: false, options: { num_predict: 9 } },
  "/api/embed": { model: "m", input: "hi" },
  "/api/show": { model: "m" },
};

beforeAll(async () => {
  hub = await startTestHub({
    GFE_BODY_LIMIT_BYTES: "65536",
    GFE_SIGNUP_CREDITS: "100000",
    GFE_QUEUE_WAIT_MS: "100",
  });
  person = await hub.signUp();
  ({ key } = await newKey(hub, person, ["inference", "read", "manage"]));
  const provider = await hub.signUp();
  node = await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, {
    offer: { capabilities: ["chat", "completion", "tools", "json_schema"], slots: 64 },
  });
  const document = (await call(hub, "GET /openapi.json")).body as {
    paths: Record<string, Record<string, Operation>>;
  };
  operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  );
});
afterAll(async () => {
  await node?.leave();
  await hub?.close();
});

/** Values that break programs. */
const hostile: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    ...[
      "",
      "\u0000",
      "a\u0000b",
      "\ud800",
      "\udfff\ud800",
      "\u202e",
      "x".repeat(5_000),
      "__proto__",
      "constructor",
    ],
    ...["../../etc/passwd", "' OR 1=1 --", "$(7*7)", "%00", "NaN", "1e400", "-0", "9".repeat(400)],
    ...[null, true, 0, -1, -0, 1.5, 1e308, -1e308, 2 ** 53, 2 ** 31, Number.MIN_VALUE],
    ...[[], {}, [[]], [null], [{}], { toString: null }, { length: 1e9 }],
  ),
  fc.string({ unit: "binary" }),
  fc.jsonValue({ maxDepth: 3 }),
);

/** What a schema asks for, with something hostile in some of its places. */
function nearly(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  const right = (): fc.Arbitrary<unknown> => {
    const either = schema.anyOf ?? schema.oneOf;
    if (either?.length) return fc.oneof(...either.map((one) => nearly(one, depth + 1)));
    if (schema.const !== undefined) return fc.constant(schema.const);
    if (schema.enum) return fc.constantFrom(...schema.enum);
    switch ([schema.type].flat()[0]) {
      case "object": {
        const members = Object.entries(schema.properties ?? {}).map(([name, one]) => [
          name,
          nearly(one, depth + 1),
        ]);
        return fc.record(Object.fromEntries(members), { requiredKeys: [] });
      }
      case "array":
        return fc.array(nearly(schema.items ?? {}, depth + 1), { maxLength: 3 });
      case "integer":
      case "number":
        return fc.integer({ min: 0, max: 100 });
      case "boolean":
        return fc.boolean();
      case "string":
        return fc.constantFrom("m", "a", "1000000", "https://example.org/");
      default:
        return hostile;
    }
  };
  return depth > 6 ? hostile : fc.oneof({ weight: 6, arbitrary: right() }, { weight: 1, arbitrary: hostile });
}

/** A right body with one place changed, however deep. */
const changed = (body: object): fc.Arbitrary<unknown> => {
  const places: (string | number)[][] = [];
  const walk = (value: unknown, path: (string | number)[]): void => {
    places.push(path);
    if (typeof value === "object" && value !== null)
      for (const [name, member] of Object.entries(value)) walk(member, [...path, name]);
  };
  walk(body, []);
  return fc.tuple(fc.constantFrom(...places), hostile).map(([path, value]) => {
    if (path.length === 0) return value;
    const copy = structuredClone(body) as Record<string, unknown>;
    let at: Record<string, unknown> = copy;
    for (const part of path.slice(0, -1)) at = at[part] as Record<string, unknown>;
    at[path.at(-1)!] = value;
    return copy;
  });
};

/** That an answer is none of our faults, and in the shape of its dialect. */
function expectInDialect({ status, body, headers }: Answer, path: string, sent: unknown): void {
  const what = `${path} ${status} ${JSON.stringify(body)?.slice(0, 300)} for ${JSON.stringify(sent)?.slice(0, 500)}`;
  expect(status, what).toBeLessThan(500);
  if (status < 400 || path === "/api/v1/device/token") return;
  const text = expect.any(String);
  switch (dialectOf(path).name) {
    case "openai":
      return expect(body, what).toMatchObject({ error: { message: text, type: text, code: text } });
    case "anthropic":
      return expect(body, what).toMatchObject({ type: "error", error: { type: text, message: text } });
    case "ollama":
      return expect(body, what).toEqual({ error: text });
    case "gfe":
      expect(headers.get("content-type"), what).toContain("application/problem+json");
      return expect(body, what).toMatchObject({ status, code: text, title: text });
  }
}

const credentials = (which: boolean) => (which ? { key } : { cookie: person.cookie });
const inPath = fc.constantFrom(
  "x",
  "%00",
  "%FF",
  "..%2f..",
  "%F0%9F%98%80",
  "a".repeat(290),
  "'--",
  "0",
  "me",
  "%ED%A0%80",
);

test("mutated bodies, on every route that takes one", async () => {
  const withBody = operations.filter(({ operation }) => operation.requestBody?.content["application/json"]);
  expect(withBody.length).toBeGreaterThan(15);
  await Promise.all(
    withBody.map(async ({ method, path, operation }) => {
      const schema = operation.requestBody!.content["application/json"]!.schema;
      const right = BODIES[path];
      const bodies = right
        ? fc.oneof(changed(right), nearly(schema), hostile)
        : fc.oneof(nearly(schema), hostile);
      await fc.assert(
        fc.asyncProperty(bodies, inPath, fc.boolean(), async (body, name, which) => {
          const url = path.replace(/\{\w+\}/g, name);
          expectInDialect(
            await call(hub, `${method} ${url}`, credentials(which), JSON.stringify(body)),
            path,
            body,
          );
        }),
        { numRuns: right ? 60 : 25 },
      );
    }),
  );
}, 60_000);

test("hostile names and queries, on every route that has them", async () => {
  const queries = fc.constantFrom(
    "",
    "?limit=-1",
    "?limit=1e9&before=%00",
    "?before=%ED%A0%80",
    "?state=%00&role='",
    "?__proto__=1",
  );
  const others = operations.filter(({ path, method }) => method === "GET" && path !== "/api/v1/live");
  await Promise.all(
    others.map(({ method, path }) =>
      fc.assert(
        fc.asyncProperty(inPath, queries, fc.boolean(), async (name, query, which) => {
          const url = path.replace(/\{\w+\}/g, name) + query;
          expectInDialect(await call(hub, `${method} ${url}`, credentials(which)), path, url);
        }),
        { numRuns: 12 },
      ),
    ),
  );
}, 60_000);

describe("a body that is none, on every route that takes one,", () => {
  const deep = (levels: number) =>
    `{"model":"m","deep":${'{"a":['.repeat(levels / 2)}1${"]}".repeat(levels / 2)}}`;
  const send = (path: string, method: string, body: string | Uint8Array, type: string): Promise<Answer> =>
    call(hub, `${method} ${path}`, { key }, body as string, { "content-type": type });

  test.each<[string, string, string]>([
    ["nested 10,000 levels deep", deep(10_000), "application/json"],
    ["nested 30,000 arrays deep", "[".repeat(30_000) + "]".repeat(30_000), "application/json"],
    ["of arrays without an end", "[".repeat(60_000), "application/json"],
    ["with __proto__", '{"__proto__":{"scopes":["manage"]},"model":"m"}', "application/json"],
    ["with constructor.prototype", '{"constructor":{"prototype":{"a":1}}}', "application/json"],
    ["with a name twice", '{"model":"m","model":["x"],"label":"a","label":{}}', "application/json"],
    ["said to be XML", "<a/>", "application/xml"],
    ["said to be a form", "model=m", "application/x-www-form-urlencoded"],
    ["of a type that is none", "{}", ";;;"],
    ["above the limit", `{"model":"${"x".repeat(70_000)}"}`, "application/json"],
  ])("%s is refused in its dialect", async (_what, body, type) => {
    for (const { method, path, operation } of operations) {
      if (!operation.requestBody) continue;
      const url = path.replace(/\{\w+\}/g, "x");
      const answer = await send(url, method, body, type);
      expectInDialect(answer, path, body.slice(0, 80));
      expect(answer.status, `${method} ${path}`).toBeGreaterThanOrEqual(400);
    }
  });

  test.each<[string, string, string]>([
    ["of huge numbers", `{"model":"m","max_tokens":${"9".repeat(400)},"limit":1e400}`, "application/json"],
    ["said to be in another alphabet", '{"model":"m"}', "application/json; charset=utf-16"],
  ])("%s is answered all the same", async (_what, body, type) => {
    for (const { method, path, operation } of operations) {
      if (!operation.requestBody) continue;
      expectInDialect(await send(path.replace(/\{\w+\}/g, "x"), method, body, type), path, body.slice(0, 80));
    }
  });

  test("with bytes that are no UTF-8 is answered all the same", async () => {
    const bytes = Buffer.concat([
      Buffer.from('{"model":"'),
      Buffer.from([0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80]),
      Buffer.from('"}'),
    ]);
    for (const { method, path, operation } of operations) {
      if (!operation.requestBody) continue;
      const response = await fetch(hub.url + path.replace(/\{\w+\}/g, "x"), {
        method,
        body: bytes,
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      });
      const text = await response.text();
      const body = text.startsWith("{") ? JSON.parse(text) : text;
      expectInDialect({ status: response.status, headers: response.headers, body }, path, "bytes");
    }
  });

  test("is taken with as many levels as there may be", async () => {
    const schema = JSON.parse(
      `${'{"a":'.repeat(JSON_DEPTH_MAX - 6)}1${"}".repeat(JSON_DEPTH_MAX - 6)}`,
    ) as object;
    const tools = [{ type: "function", function: { name: "f", parameters: schema } }];
    const { status } = await call(
      hub,
      "POST /v1/chat/completions",
      { key },
      { ...BODIES["/v1/chat/completions"], tools },
    );
    expect(status).toBe(200);
  });
});

test("log-in's own routes answer whatever comes with no fault of ours", async () => {
  const bodies = [
    "[".repeat(20_000),
    "\u0000",
    '{"email":"a\\u0000@b.c","password":"\\ud800aaaaaaaa","name":"\\u0000"}',
    "[]",
    "null",
    "1",
    '"x"',
    '{"__proto__":{}}',
    `{"email":${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
  ];
  for (const path of [
    "sign-in/email",
    "sign-up/email",
    "sign-out",
    "device/code",
    "device/approve",
    "get-session",
    "update-user",
    "nothing",
  ])
    for (const body of bodies) {
      const { status } = await call(
        hub,
        `POST /api/auth/${path}`,
        { cookie: "gfe.session_token=%00; a=\u00ff" },
        body,
      );
      expect(status, `${path} ${body.slice(0, 60)}`).toBeLessThan(500);
    }
});

test("an image at an address is refused in every dialect: neither hub nor node fetches anything", async () => {
  for (const url of ["http://169.254.169.254/latest", "https://example.org/cat.png", "file:///etc/passwd"]) {
    const image = { type: "image_url", image_url: { url } };
    const bodies: [string, object][] = [
      ["/v1/chat/completions", { model: "m", messages: [{ role: "user", content: [image] }] }],
      [
        "/v1/messages",
        {
          model: "m",
          max_tokens: 9,
          messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url } }] }],
        },
      ],
      [
        "/v1/responses",
        { model: "m", input: [{ role: "user", content: [{ type: "input_image", image_url: url }] }] },
      ],
      ["/api/chat", { model: "m", messages: [{ role: "user", content: "x", images: [url] }] }],
      ["/api/generate", { model: "m", prompt: "x", images: [url] }],
    ];
    for (const [path, body] of bodies) {
      const answer = await call(hub, `POST ${path}`, { key }, body);
      expect(answer.status, `${path} ${url} ${JSON.stringify(answer.body)}`).toBe(400);
      expectInDialect(answer, path, body);
    }
  }
});
