import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPool } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Gfe, gfe } from "./testing/gfe.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pool: pg.Pool;
let dataDir: string;
let hub: Gfe;
let url: string;
let operator: Person;
let consumer: Person;
let env: Record<string, string>;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = createPool(database.url, () => {});
  dataDir = mkdtempSync(join(tmpdir(), "gfe-cli-"));
  env = { DATABASE_URL: database.url, GFE_DATA_DIR: dataDir };
  hub = new Gfe(["hub", "--no-build"], { ...env, PORT: "0", GFE_LOGINS_MAX: "100", GFE_LOG_LEVEL: "warn" });
  url = (await hub.printed(/http:\/\/127\.0\.0\.1:\d+/))[0];
  operator = await register("operator");
  consumer = await register("consumer");
});
afterAll(async () => {
  await hub?.stop();
  await pool?.end();
  await database?.drop();
  if (dataDir) rmSync(dataDir, { recursive: true, force: true });
});

interface Person {
  cookie: string;
  session: string;
}

async function register(name: string): Promise<Person> {
  const response = await fetch(`${url}/api/auth/sign-up/email`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: url },
    body: JSON.stringify({ name, email: `${name}@example.test`, password: "correct horse battery" }),
  });
  expect(response.status).toBe(200);
  const cookie = response.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .join("; ");
  return { cookie, session: response.headers.get("set-auth-token") ?? "" };
}

async function make<Made>(path: string, { cookie }: Person, body: object): Promise<Made> {
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", cookie, origin: url },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(201);
  return (await response.json()) as Made;
}

const verify = (args: string[], more: Record<string, string> = {}) =>
  gfe(["ledger", "verify", ...args], more);

describe("ledger verify", () => {
  test("recomputes every invariant of a database and says which held", async () => {
    const { code, stdout, stderr } = await verify([], env);
    expect([code, stderr]).toEqual([0, ""]);
    const lines = stdout.trim().split("\n");
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines) expect(line).toMatch(/^✓ \S/);
  });

  test("says the same as one JSON object", async () => {
    const { code, stdout } = await verify(["--json"], env);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: true,
      checks: expect.arrayContaining([{ name: expect.any(String), ok: true, detail: expect.any(String) }]),
    });
  });

  test("asks a running hub, for its operator, by option or by environment", async () => {
    const byOption = await verify(["--hub", url, "--session", operator.session]);
    expect([byOption.code, byOption.stderr]).toEqual([0, ""]);
    expect(await verify(["--hub", url], { GFE_SESSION: operator.session })).toEqual(byOption);
    expect(byOption.stdout).toMatch(/^✓ /m);
  });

  test.each<[string, () => string[], RegExp]>([
    ["no session", () => [], /^gfe: --hub needs --session or GFE_SESSION/],
    ["a session that is none", () => ["--session", "nonsense"], /^gfe: the hub answered 401: .+/],
    [
      "somebody who does not operate",
      () => ["--session", consumer.session],
      /^gfe: the hub answered 403: Only an operator/,
    ],
  ])("refuses %s in one line, with exit status 1", async (_name, session, words) => {
    const { code, stdout, stderr } = await verify(["--hub", url, ...session()]);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(words);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test("says that what answers is no hub, where it is none", async () => {
    const server = createServer((_request, response) => response.end("hello"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as { port: number };
      const { code, stderr } = await verify(["--hub", `http://127.0.0.1:${port}`, "--session", "x"]);
      expect([code, stderr]).toEqual([1, "gfe: the hub answered 200: not as a hub does\n"]);
    } finally {
      server.close();
    }
  });

  test("says that a database is away, without a stack", async () => {
    const away = { ...env, DATABASE_URL: "postgresql://127.0.0.1:9/none" };
    const { code, stderr } = await verify([], away);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^gfe: .*ECONNREFUSED/);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("finds a row that somebody changed by hand, names the check and ends with status 1", async () => {
    await pool.query("UPDATE ledger_accounts SET posted = posted + 1 WHERE kind = 'consumer'");
    try {
      const { code, stdout } = await verify([], env);
      expect(code).toBe(1);
      expect(stdout).toMatch(/^✗ .+: .+$/m);
      const asked = await verify(["--hub", url, "--session", operator.session, "--json"]);
      expect([asked.code, JSON.parse(asked.stdout).ok]).toEqual([1, false]);
    } finally {
      await pool.query("UPDATE ledger_accounts SET posted = posted - 1 WHERE kind = 'consumer'");
    }
  });
});

describe("a node, a consumer and a hub, each a process of its own", () => {
  let node: Gfe;
  let key: { secret: string };
  beforeAll(async () => {
    const token = await make<{ secret: string }>("/api/v1/agent-tokens", operator, { label: "rig" });
    key = await make<{ secret: string }>("/api/v1/keys", consumer, { label: "laptop" });
    node = new Gfe(
      [
        ...["up", "--hub", url, "--scripted", "--name", "rig-1", "--config-dir", join(dataDir, "node")],
        ...["--json", "--region", "eu-west", "--alias", "quick=scripted"],
      ],
      { GFE_AGENT_TOKEN: token.secret, GFE_DATA_POLICY: "none" },
    );
    await node.printed(/"type":"joined"/);
  });
  afterAll(() => node?.stop());

  test("models lists what is on offer", async () => {
    const { code, stdout } = await gfe(["models", "--hub", url, "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).models).toMatchObject([{ nodes: 1, scripted: true }]);
    expect((await gfe(["models", "--hub", url])).stdout).toContain("free slots");
  });

  test("chat prints the answer and nothing else, and the ledger still verifies", async () => {
    const { code, stdout, stderr } = await gfe(["chat", "--hub", url, "say", "something"], {
      GFE_API_KEY: key.secret,
    });
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout.trim().length).toBeGreaterThan(0);
    expect(stdout.endsWith("\n")).toBe(true);
    expect((await verify([], env)).code).toBe(0);
  });

  test("what the node says of itself, by option or environment, finds it", async () => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key.secret}` },
      body: JSON.stringify({
        model: "quick",
        messages: [{ role: "user", content: "hi" }],
        provider: { region: "eu-west", data_collection: "deny" },
      }),
    });
    expect([response.status, await response.json()]).toMatchObject([200, { x_gfe: { node_name: "rig-1" } }]);
  });

  test("chat --json is the whole answer with what it cost", async () => {
    const { code, stdout } = await gfe(["chat", "--hub", url, "--json", "hi"], { GFE_API_KEY: key.secret });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      content: expect.any(String),
      x_gfe: { node_name: "rig-1", cost_micro: "1000000" },
    });
  });

  test("chat without a prompt is a conversation, until an empty line", async () => {
    const { code, stdout } = await gfe(
      ["chat", "--hub", url],
      { GFE_API_KEY: key.secret },
      "hi\nand again\n\n",
    );
    expect(code).toBe(0);
    expect(stdout.trim().split("\n").length).toBeGreaterThanOrEqual(2);
  });

  test.each<[string, string[], Record<string, string>, RegExp]>([
    ["a key that is none", ["hi"], { GFE_API_KEY: "gfe_sk_nonsense" }, /^gfe: .*key/i],
    ["a model that nobody offers", ["--model", "none", "hi"], {}, /^gfe: .*none/],
  ])("chat with %s is one line and exit status 1", async (_name, args, more, words) => {
    const { code, stderr } = await gfe(["chat", "--hub", url, ...args], { GFE_API_KEY: key.secret, ...more });
    expect(code).toBe(1);
    expect(stderr).toMatch(words);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("a node with a token that is none says so and ends", async () => {
    const { code, stderr } = await gfe(
      ["up", "--hub", url, "--scripted", "--config-dir", join(dataDir, "other")],
      {
        GFE_AGENT_TOKEN: "gfe_at_nonsense",
      },
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/token/i);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});

test("a second hub on the same data directory is refused in words", async () => {
  const { code, stderr } = await gfe(["hub", "--no-build"], { ...env, PORT: "0" });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^gfe: /);
  expect(stderr).toContain(dataDir);
  expect(stderr).not.toMatch(/^\s+at /m);
});

test("a port that is taken is told in words", async () => {
  const other = mkdtempSync(join(tmpdir(), "gfe-cli-"));
  try {
    const { code, stderr } = await gfe(["hub", "--no-build"], {
      ...env,
      GFE_DATA_DIR: other,
      PORT: new URL(url).port,
      GFE_LOG_LEVEL: "silent",
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^gfe: .*(in use|EADDRINUSE)/);
    expect(stderr).not.toMatch(/^\s+at /m);
  } finally {
    rmSync(other, { recursive: true, force: true });
  }
});
