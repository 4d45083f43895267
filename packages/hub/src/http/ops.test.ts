import type { AttemptStart } from "@gfe/protocol";
import pg from "pg";
import { afterEach, expect, test } from "vitest";
import { call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { PASSWORD, startTestHub, type TestHub } from "../testing/test-hub.ts";
import { joinNode, type TestNode } from "../testing/test-node.ts";

const hubs: TestHub[] = [];
afterEach(() => Promise.all(hubs.splice(0).map((hub) => hub.close())));

async function start(env: Record<string, string> = {}): Promise<TestHub> {
  const hub = await startTestHub(env);
  hubs.push(hub);
  return hub;
}
const chat = { model: "m", messages: [{ role: "user", content: "a prompt of mine" }], max_tokens: 9 };

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Prometheus' text format, strictly: every line is a comment of a known kind or a sample. */
function parseMetrics(text: string): { samples: Sample[]; types: Map<string, string> } {
  const samples: Sample[] = [];
  const types = new Map<string, string>();
  expect(text.endsWith("\n")).toBe(true);
  for (const line of text.split("\n").filter(Boolean)) {
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    if (type) types.set(type[1]!, type[2]!);
    if (type || /^# HELP \S+ ./.test(line)) continue;
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    expect(sample, `not a sample: ${line}`).not.toBeNull();
    const [, name, labels = "", value] = sample!;
    const pairs = [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\\n]|\\.)*)"(?:,|$)/g)];
    expect(pairs.map(([whole]) => whole).join(""), line).toBe(labels);
    expect(value, line).toMatch(/^(nan|[+-]inf|-?\d+(\.\d+)?(e[+-]?\d+)?)$/i);
    samples.push({
      name: name!,
      labels: Object.fromEntries(pairs.map(([, label, text]) => [label!, text!])),
      value: Number(value),
    });
  }
  return { samples, types };
}

test("/healthz and /readyz say that the process lives and takes work", async () => {
  const hub = await start();
  expect(await call(hub, "GET /healthz")).toMatchObject({ status: 200, body: { status: "ok" } });
  expect(await call(hub, "GET /readyz")).toMatchObject({ status: 200, body: { status: "ready" } });
});

test("/readyz is 503 while the database is away, /healthz is not, and both are well again after it", async () => {
  const hub = await start();
  const { rows } = await hub.pool.query<{ name: string }>("SELECT current_database() AS name");
  const { name } = rows[0]!;
  const server = new pg.Client({ connectionString: process.env.GFE_TEST_DATABASE_URL });
  await server.connect();
  try {
    await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
    await server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", [name]);
    const ready = await call(hub, "GET /readyz");
    expect(ready).toMatchObject({ status: 503, body: { status: "database unreachable" } });
    expect((await call(hub, "GET /healthz")).status).toBe(200);
    const key = { key: `gfe_sk_${"a".repeat(43)}` };
    const { status, body } = await call(hub, "POST /v1/chat/completions", key, chat);
    expect(status).toBeGreaterThanOrEqual(500);
    expect(JSON.stringify(body)).not.toMatch(/connect|postgres/i);
    await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    expect((await call(hub, "GET /readyz")).status).toBe(200);
  } finally {
    await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    await server.end();
  }
});

test("while the hub drains /readyz is 503, what runs may end, and new work is sent elsewhere", async () => {
  const hub = await start({ GFE_DRAIN_MS: "20000" });
  const { key } = await newKey(hub, await hub.signUp(), ["inference"]);
  let started: (at: { start: AttemptStart; node: TestNode }) => void = () => {};
  const running = new Promise<{ start: AttemptStart; node: TestNode }>((resolve) => {
    started = resolve;
  });
  const { secret } = await newAgentToken(hub, await hub.signUp());
  await joinNode(hub.url, secret, { onStart: (attempt, node) => started({ start: attempt, node }) });
  const answer = call(hub, "POST /v1/chat/completions", { key }, chat);
  const { start: attempt, node } = await running;
  const stopped = hub.stop();
  await expect
    .poll(() => call(hub, "GET /readyz"))
    .toMatchObject({ status: 503, body: { status: "draining" } });
  const refused = await call(hub, "POST /v1/chat/completions", { key }, chat);
  expect([refused.status, refused.body.error.code]).toEqual([503, "shutting_down"]);
  node.say(attempt, "word");
  await node.done(attempt, 1);
  expect((await answer).body.choices[0].message.content).toBe("word");
  await stopped;
});

async function busyHub(): Promise<{
  hub: TestHub;
  consumer: Person;
  key: string;
  keyId: string;
  token: string;
  node: TestNode;
}> {
  const hub = await start();
  const consumer = await hub.signUp("somebody@example.test");
  const { key, id: keyId } = await newKey(hub, consumer, ["inference", "read"]);
  const { secret: token } = await newAgentToken(hub, await hub.signUp());
  const node = await joinNode(hub.url, token);
  for (let i = 0; i < 3; i++) await call(hub, "POST /v1/chat/completions", { key }, chat);
  node.send({ type: "announce", announcement: "none" });
  await node.frame("refused");
  return { hub, consumer, key, keyId, token, node };
}

test("/metrics is Prometheus' text format and counts what happened", async () => {
  const { hub } = await busyHub();
  const { headers, body } = await call(hub, "GET /metrics");
  expect(headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const { samples, types } = parseMetrics(body);
  const sum = (name: string, labels: Record<string, string> = {}) =>
    samples
      .filter(
        (one) => one.name === name && Object.entries(labels).every(([label, is]) => one.labels[label] === is),
      )
      .reduce((total, { value }) => total + value, 0);
  expect(sum("gfe_jobs_total", { kind: "chat", state: "completed" })).toBe(3);
  expect(sum("gfe_output_tokens_total")).toBe(3);
  expect(sum("gfe_nodes_online")).toBe(1);
  expect(sum("gfe_jobs_running")).toBe(0);
  expect(sum("gfe_time_to_first_token_seconds_count")).toBe(3);
  expect(sum("gfe_agent_frames_refused_total", { code: "malformed" })).toBe(1);
  expect(sum("gfe_http_request_seconds_count", { route: "/v1/chat/completions", status: "200" })).toBe(3);
  expect(types.get("gfe_http_request_seconds")).toBe("histogram");
  for (const { name } of samples) expect(name).toMatch(/^gfe_/);
  await expect
    .poll(async () => (await call(hub, "GET /metrics")).body)
    .toMatch(/_checked_timestamp_seconds [1-9]/);
  for (const name of ["imbalance_micro", "overdrawn_accounts", "overdue_holds"])
    expect(samples).toContainEqual({ name: `gfe_ledger_${name}`, labels: {}, value: 0 });
});

test("/metrics tells of models that are or were offered and found no provider, and of no name that is made up", async () => {
  const { hub, key, node } = await busyHub();
  const ask = (model: string) => call(hub, "POST /v1/chat/completions", { key }, { ...chat, model });
  const rows = async (name: string) =>
    parseMetrics((await call(hub, "GET /metrics")).body)
      .samples.filter((one) => one.name === name)
      .map(({ labels, value }) => ({ ...labels, value }));
  expect(await rows("gfe_requests_unserved_total")).toEqual([]);
  expect((await ask("m")).status).toBe(200);
  await node.leave();
  await expect.poll(async () => (await rows("gfe_nodes_online"))[0]!.value).toBe(0);
  const codes: unknown[] = [];
  for (const model of ["m", "made-up-1", "made-up-2"]) codes.push((await ask(model)).body.error.code);
  expect(codes).toEqual(["model_away", "model_not_found", "model_not_found"]);
  expect(await rows("gfe_requests_unserved_total")).toEqual([
    { model: "m", value: 1 },
    { model: "other", value: 2 },
  ]);
  expect(await rows("gfe_request_errors_total")).toEqual([
    { code: "model_away", value: 1 },
    { code: "model_not_found", value: 2 },
  ]);
});

test("/metrics names no key, person, node or prompt, and what strangers ask for makes no new rows", async () => {
  const { hub, consumer, key, keyId, token, node } = await busyHub();
  const rows = async () =>
    parseMetrics((await call(hub, "GET /metrics")).body).samples.filter(({ labels }) => labels.route);
  await call(hub, `GET /nowhere/${key}?key=${key}`);
  await call(hub, "GET /v1/models/secret-project", { key });
  await call(hub, "GET /api/v1/jobs/job_secret", { key });
  await rows();
  const before = (await rows()).length;
  for (let i = 0; i < 20; i++) await call(hub, `GET /nowhere/${i}`);
  await call(hub, "GET /v1/models/another", { key });
  expect((await rows()).length).toBe(before);
  const { body } = await call(hub, "GET /metrics");
  const secrets = [
    key,
    token,
    PASSWORD,
    consumer.cookie,
    consumer.userId,
    consumer.email,
    node.nodeId,
    keyId,
    "secret",
    "prompt of mine",
  ];
  for (const secret of secrets) expect(body).not.toContain(secret);
});
