/** POST /api/v1/jobs and webhooks: submitted now, run when there is room, told of and fetched later. */
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { Agent, Script } from "@gfe/agent";
import { deferredJobSchema } from "@gfe/protocol";
import { Webhook as Verifier } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
const script: Script = {
  models: [{ name: "m" }, { name: "slow" }, { name: "refuses" }],
  failure: ({ body }) =>
    body.model === "slow"
      ? { type: "hang", afterDeltas: 1 }
      : body.model === "refuses"
        ? { type: "refuse", code: "engine_refused", message: "not this" }
        : undefined,
};

interface Told {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it
  event: any;
}

let world: World;
let consumer: Person;
let agent: Agent;
let receiver: Server;
let receiverUrl: string;
let told: Told[];

beforeAll(async () => {
  told = [];
  receiver = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (piece: string) => {
      body += piece;
    });
    request.on("end", () => {
      told.push({ path: request.url!, headers: request.headers, body, event: JSON.parse(body) });
      response.end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  receiverUrl = `http://127.0.0.1:${(receiver.address() as { port: number }).port}`;
  world = await startWorld({ GFE_WEBHOOK_ALLOW_PRIVATE: "1" });
  consumer = await world.person("consumer");
  const provider = await world.person("provider");
  agent = await joinScripted(script, { hubUrl: world.hub.url, token: provider.agentToken });
});
afterAll(async () => {
  await agent?.stop();
  await world?.end();
  receiver?.closeAllConnections();
  await new Promise((resolve) => receiver.close(resolve));
});

const CHAT = { model: "m", messages: [{ role: "user", content: "tell nobody" }] };
const submit = (body: object, as = consumer) => world.call("POST", "/api/v1/jobs", { as, body });
const get = (path: string, as = consumer) => world.call("GET", `/api/v1/jobs/${path}`, { as });
async function ended(id: string, as = consumer) {
  await until(async () => (await get(id, as)).body.ended_at !== null, "the job ends");
  const { body } = await get(id, as);
  expect(deferredJobSchema.parse(body)).toEqual(body);
  return body;
}
const eventOf = (id: string) => told.find(({ event }) => event.data.id === id)?.event;

describe("a submitted job", () => {
  it("is accepted at once, run as a job, and its answer fetched by its owner alone", async () => {
    const before = await world.available(consumer);
    const { status, body, headers } = await submit({ ...CHAT, priority: "batch" });
    expect([status, headers.get("location")]).toEqual([202, `/api/v1/jobs/${body.job.id}`]);
    expect(body.job).toMatchObject({ state: "queued", kind: "chat", model: "m", priority: "batch" });
    expect(body).not.toHaveProperty("webhook_secret");
    const job = await ended(body.job.id);
    expect(job).toMatchObject({ state: "completed", cost_micro: String(CREDIT), error: null });
    expect((await get(job.job_id)).body).toMatchObject({ id: job.job_id, state: "completed" });
    const result = await get(`${job.id}/result`);
    expect(result.body).toMatchObject({
      object: "chat.completion",
      choices: [{ finish_reason: "stop" }],
      x_gfe: { job_id: job.job_id, cost_micro: String(CREDIT) },
    });
    expect(before - (await world.available(consumer))).toBe(CREDIT);
    const stranger = await world.person("stranger");
    for (const path of [job.id, `${job.id}/result`]) expect((await get(path, stranger)).status).toBe(404);
    const deleted = await world.call("DELETE", `/api/v1/jobs/${job.id}`, { as: stranger });
    expect(deleted.status).toBe(404);
  });

  it("leaves no prompt behind when it has ended", async () => {
    const { body } = await submit(CHAT);
    await ended(body.job.id);
    const { rows } = await world.pool.query("SELECT body FROM deferred_jobs WHERE id = $1", [body.job.id]);
    expect(rows).toEqual([{ body: null }]);
  });

  it("is kept for so long, and not a moment longer", async () => {
    const { body } = await submit(CHAT);
    const { id, result_until } = await ended(body.job.id);
    expect(Date.parse(result_until) - Date.now()).toBeGreaterThan(71 * 3_600_000);
    await world.pool.query(
      "UPDATE deferred_jobs SET ended_at = ended_at - interval '72 hours' WHERE id = $1",
      [id],
    );
    expect((await get(`${id}/result`)).status).toBe(404);
  });

  it("of each kind takes the body of its endpoint", async () => {
    const embedding = await submit({ kind: "embedding", body: { model: "m", input: "x" } });
    const completion = await submit({ kind: "completion", body: { model: "m", prompt: "x", max_tokens: 2 } });
    await ended(embedding.body.job.id);
    await ended(completion.body.job.id);
    expect((await get(`${embedding.body.job.id}/result`)).body).toMatchObject({ object: "list" });
    expect((await get(`${completion.body.job.id}/result`)).body.choices[0].text).toBe("The quick");
  });

  it.each([
    ["temperature", { body: { ...CHAT, temperature: 9 } }],
    ["stream", { body: { ...CHAT, stream: true } }],
    ["body", { ...CHAT, body: CHAT }],
    ["body", { kind: "embedding", ...CHAT }],
    ["messages", { model: "m" }],
    ["priority", { ...CHAT, priority: "interactive" }],
    ["url", { ...CHAT, webhook_url: "ftp://example.org" }],
  ])("with a wrong %s is refused at once", async (param, body) => {
    const answer = await submit(body);
    expect([answer.status, answer.body.param ?? answer.body.detail]).toEqual([
      400,
      expect.stringContaining(param),
    ]);
  });

  it("that fails says why where its answer would be, and is not charged", async () => {
    const before = await world.available(consumer);
    const { body } = await submit({ ...CHAT, model: "refuses" });
    expect(await ended(body.job.id)).toMatchObject({ state: "failed", error: { detail: "not this" } });
    expect((await get(`${body.job.id}/result`)).body).toMatchObject({
      code: "invalid_request",
      detail: "not this",
    });
    expect(await world.available(consumer)).toBe(before);
  });

  it("waits for a model that nobody offers yet, and is cancelled while it waits", async () => {
    const { body } = await submit({ ...CHAT, model: "later" });
    const pending = await get(`${body.job.id}/result`);
    expect([pending.status, pending.body.code]).toEqual([409, "conflict"]);
    const gone = await world.call("DELETE", `/api/v1/jobs/${body.job.id}`, { as: consumer });
    expect(gone.status).toBe(204);
    expect((await ended(body.job.id)).state).toBe("cancelled");
    const again = await world.call("DELETE", `/api/v1/jobs/${body.job.id}`, { as: consumer });
    expect(again.status).toBe(409);
  });

  it("is stopped while it runs", async () => {
    const { body } = await submit({ ...CHAT, model: "slow" });
    await until(() => agent.running > 0, "it runs");
    expect((await get(body.job.id)).body.state).toBe("running");
    await world.call("DELETE", `/api/v1/jobs/${body.job.id}`, { as: consumer });
    expect((await ended(body.job.id)).state).toBe("cancelled");
    await until(() => agent.running === 0, "its engine stopped");
  });

  it("pays no more later than its key would now", async () => {
    const before = await world.available(consumer);
    const { body: made } = await world.call("POST", "/api/v1/keys", {
      session: consumer,
      body: { label: "thrifty", scopes: ["inference"], max_price: { per_request: "1" } },
    });
    const { body } = await submit(CHAT, { ...consumer, key: made.secret });
    expect(await ended(body.job.id)).toMatchObject({
      state: "failed",
      error: { detail: expect.stringContaining("price") },
    });
    expect(await world.available(consumer)).toBe(before);
  });

  it("by a key that was revoked meanwhile is not run", async () => {
    const { body: made } = await world.call("POST", "/api/v1/keys", {
      session: consumer,
      body: { label: "gone", scopes: ["inference"] },
    });
    const before = await world.available(consumer);
    const { body } = await submit({ ...CHAT, model: "later" }, { ...consumer, key: made.secret });
    await world.call("DELETE", `/api/v1/keys/${made.key.id}`, { session: consumer });
    await world.pool.query("UPDATE deferred_jobs SET not_before = now() WHERE id = $1", [body.job.id]);
    expect(await ended(body.job.id)).toMatchObject({ state: "failed", error_code: "key_revoked" });
    expect(await world.available(consumer)).toBe(before);
  });
});

describe("webhooks", () => {
  it("tell of the ends of jobs and batches, signed, without a word of what was asked or answered", async () => {
    const person = await world.person("listener");
    const made = await world.call("POST", "/api/v1/webhooks", {
      as: person,
      body: { url: `${receiverUrl}/all` },
    });
    expect([made.status, made.body.secret]).toEqual([201, expect.stringMatching(/^whsec_/)]);
    const good = (await submit(CHAT, person)).body.job.id;
    const bad = (await submit({ ...CHAT, model: "refuses" }, person)).body.job.id;
    await until(() => eventOf(good) && eventOf(bad), "both are told of");
    expect(eventOf(good)).toMatchObject({ type: "job.completed", data: { id: good, state: "completed" } });
    expect(eventOf(bad)).toMatchObject({ type: "job.failed", data: { id: bad, state: "failed" } });
    for (const { body, headers } of told) {
      expect(body).not.toMatch(/tell nobody|quick|not this/);
      new Verifier(made.body.secret).verify(body, headers as Record<string, string>);
    }
    const { body: listed } = await world.call("GET", "/api/v1/webhooks", { as: person });
    expect(listed.webhooks).toMatchObject([{ id: made.body.webhook.id, last_status: 200 }]);
    expect(JSON.stringify(listed)).not.toContain(made.body.secret);
  });

  it("are deleted by their owner alone, and hear no more", async () => {
    const person = await world.person("listener");
    const made = await world.call("POST", "/api/v1/webhooks", {
      as: person,
      body: { url: `${receiverUrl}/gone`, events: ["job.completed"] },
    });
    const path = `/api/v1/webhooks/${made.body.webhook.id}`;
    expect((await world.call("DELETE", path, { as: consumer })).status).toBe(404);
    expect((await world.call("DELETE", path, { as: person })).status).toBe(204);
    await ended((await submit(CHAT, person)).body.job.id, person);
    expect(told.filter((one) => one.path === "/gone")).toEqual([]);
  });

  it("of one job have a secret of their own, and are told of that job only", async () => {
    const url = `${receiverUrl}/one`;
    const { body } = await submit({ ...CHAT, webhook_url: url });
    const other = (await submit(CHAT)).body.job.id;
    await ended(other);
    await until(() => told.some(({ path }) => path === "/one"), "it is told");
    const heard = told.filter(({ path }) => path === "/one");
    expect(heard.map(({ event }) => event.data.id)).toEqual([body.job.id]);
    new Verifier(body.webhook_secret).verify(heard[0]!.body, heard[0]!.headers as Record<string, string>);
    const { body: listed } = await world.call("GET", "/api/v1/webhooks", { as: consumer });
    expect(listed.webhooks).toEqual([]);
  });
});
