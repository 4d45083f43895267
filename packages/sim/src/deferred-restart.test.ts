/**
 * What was submitted outlives its hub: a stop in mid-batch and a kill without warning, and still each line is answered once,
 * paid once, and told of once.
 */
import { createServer } from "node:http";
import type { Agent, Script } from "@gfe/agent";
import { createPool } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import { createLedger } from "@gfe/ledger";
import OpenAI, { toFile } from "openai";
import type { Batch } from "openai/resources/batches";
import { expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { createHubHome } from "./hub-process.ts";
import { audit, startWorld, until } from "./world.ts";

const CREDIT = 1_000_000n;
const LINES = 24;
/** An answer takes some 200 ms: a stop or a kill finds lines of every state. */
const SLOW: Script = { models: [{ name: "m", slots: 4 }], deltas: 10, paceMs: 20 };
const WITHIN_MS = 20_000;

const clientOf = (url: string, apiKey: string) =>
  new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 3, timeout: 5_000 });

async function submit(openai: OpenAI): Promise<Batch> {
  const lines = Array.from({ length: LINES }, (_, i) =>
    JSON.stringify({
      custom_id: `line-${i}`,
      method: "POST",
      url: "/v1/chat/completions",
      body: { model: "m", messages: [{ role: "user", content: `question ${i}` }] },
    }),
  );
  const file = await toFile(Buffer.from(lines.join("\n")), "in.jsonl");
  const { id } = await openai.files.create({ file, purpose: "batch" });
  return openai.batches.create({
    input_file_id: id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
  });
}

const counted = async (openai: OpenAI, id: string) =>
  (await openai.batches.retrieve(id)).request_counts?.completed ?? 0;

/** Every line has one answer, by a job of its own that was paid. */
async function expectAnsweredOnce(openai: OpenAI, id: string): Promise<string[]> {
  await until(
    async () => (await openai.batches.retrieve(id)).status === "completed",
    "the batch is completed",
    WITHIN_MS,
  );
  const done = await openai.batches.retrieve(id);
  expect(done.request_counts).toEqual({ total: LINES, completed: LINES, failed: 0 });
  const text = await (await openai.files.content(done.output_file_id!)).text();
  const results = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(results.map(({ custom_id }) => custom_id)).toEqual(
    Array.from({ length: LINES }, (_, i) => `line-${i}`),
  );
  const jobIds = results.map(({ response }) => response.body.x_gfe.job_id);
  expect(new Set(jobIds).size).toBe(LINES);
  return jobIds;
}

it("a hub that is stopped in mid-batch and started again ends the batch: no line twice, none charged twice", async () => {
  const told: { type: string; data: { id: string } }[] = [];
  let refusals = 1;
  const receiver = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => {
      body += piece;
    });
    request.on("end", () => {
      if (refusals-- > 0) response.writeHead(500);
      else told.push(JSON.parse(body));
      response.end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(receiver.address() as { port: number }).port}/`;
  const world = await startWorld({ GFE_WEBHOOK_ALLOW_PRIVATE: "1", GFE_DRAIN_MS: "50" });
  let agent: Agent | undefined;
  try {
    const consumer = await world.person("consumer");
    const { agentToken: token } = await world.person("provider");
    agent = await joinScripted(SLOW, { hubUrl: world.hub.url, token });
    const openai = clientOf(world.hub.url, consumer.key);
    await world.call("POST", "/api/v1/webhooks", { as: consumer, body: { url } });
    const waits = await world.call("POST", "/api/v1/jobs", {
      as: consumer,
      body: { model: "later", messages: [{ role: "user", content: "hi" }] },
    });
    const { id } = await submit(openai);
    await until(async () => (await counted(openai, id)) >= 3, "some lines are answered");
    const before = await counted(openai, id);
    expect(before).toBeLessThan(LINES);

    await world.restart();

    expect(await counted(openai, id)).toBeGreaterThanOrEqual(before);
    const { body: job } = await world.call("GET", `/api/v1/jobs/${waits.body.job.id}`, { as: consumer });
    expect(job).toMatchObject({ ended_at: null, error: null });
    const jobIds = await expectAnsweredOnce(openai, id);
    const { rows } = await world.pool.query(
      "SELECT id, state, cost_micro FROM jobs WHERE cost_micro > 0 OR state = 'completed'",
    );
    expect(rows.map((row) => row.id).sort()).toEqual([...jobIds].sort());
    expect(await world.available(consumer)).toBe((100n - BigInt(LINES)) * CREDIT);
    // Its first delivery was refused, and is due again: also that is known to a hub that starts.
    await until(async () => refusals < 1, "the end was told, in vain");
    await world.restart();
    await world.pool.query("UPDATE webhook_deliveries SET due_at = now()");
    await until(() => told.length > 0, "the end is told again");
    expect(told.map(({ type, data }) => [type, data.id])).toEqual([["batch.completed", id]]);
    await world.call("DELETE", `/api/v1/jobs/${waits.body.job.id}`, { as: consumer });
  } finally {
    await agent?.stop();
    await world.end();
    receiver.closeAllConnections();
    receiver.close();
  }
}, 60_000);

it("a hub that is killed in mid-batch, twice, likewise", async () => {
  const home = await createHubHome();
  const database = await createTestDatabase();
  const pool = createPool(database.url, () => {});
  const env = { DATABASE_URL: database.url, GFE_SIGNUP_CREDITS: "100" };
  let agent: Agent | undefined;
  try {
    let hub = await home.start(env);
    const { key } = await signUp(home.url, "consumer");
    const { token } = await signUp(home.url, "provider");
    agent = await joinScripted(SLOW, { hubUrl: home.url, token });
    const openai = clientOf(home.url, key);
    const { id } = await submit(openai);
    for (const enough of [3, 10]) {
      await until(async () => (await counted(openai, id)) >= enough, "some lines are answered", WITHIN_MS);
      await hub.kill("SIGKILL");
      hub = await home.start(env);
    }
    const jobIds = await expectAnsweredOnce(openai, id);
    const { rows } = await pool.query("SELECT id FROM jobs WHERE cost_micro > 0");
    expect(rows.map((row) => row.id).sort()).toEqual([...jobIds].sort());
    await audit(pool, createLedger({ pool }));
  } finally {
    await agent?.stop();
    await home.clean();
    await pool.end();
    await database.drop();
  }
}, 90_000);

async function signUp(url: string, name: string): Promise<{ key: string; token: string }> {
  const post = (path: string, cookie: string, body: object) =>
    fetch(url + path, {
      method: "POST",
      headers: { "content-type": "application/json", origin: url, cookie },
      body: JSON.stringify(body),
    });
  const answer = await post("/api/auth/sign-up/email", "", {
    ...{ name, email: `${name}@example.org`, password: "correct horse battery" },
  });
  const cookie = answer.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .join("; ");
  const secretOf = async (path: string) =>
    ((await (await post(path, cookie, { label: "test" })).json()) as { secret: string }).secret;
  return { key: await secretOf("/api/v1/keys"), token: await secretOf("/api/v1/agent-tokens") };
}
