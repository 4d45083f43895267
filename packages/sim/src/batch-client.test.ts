/** OpenAI's Batch API, spoken by OpenAI's own client: files in, files out, each line one job that is paid once. */
import type { Agent, Script } from "@gfe/agent";
import type { Job } from "@gfe/protocol";
import OpenAI, { toFile } from "openai";
import type { Batch } from "openai/resources/batches";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
/** Some answer at once, others take their time. */
const script: Script = {
  models: [{ name: "m" }, { name: "slow", slots: 2 }],
  failure: ({ body }) => (body.model === "slow" ? { type: "hang", afterDeltas: 1 } : undefined),
};

let world: World;
let consumer: Person;
let openai: OpenAI;
let agent: Agent;

beforeAll(async () => {
  world = await startWorld({ GFE_STALL_TIMEOUT_MS: "300" });
  consumer = await world.person("consumer");
  openai = clientOf(consumer);
  const provider = await world.person("provider");
  agent = await joinScripted(script, { hubUrl: world.hub.url, token: provider.agentToken });
});
afterAll(async () => {
  await agent?.stop();
  await world?.end();
});

const clientOf = ({ key }: Person) =>
  new OpenAI({ apiKey: key, baseURL: `${world.hub.url}/v1`, maxRetries: 0, timeout: 20_000 });

const chat = (customId: string, body: object = {}) => ({
  custom_id: customId,
  method: "POST",
  url: "/v1/chat/completions",
  body: { model: "m", max_tokens: 3, messages: [{ role: "user", content: "hi" }], ...body },
});
const jsonl = (lines: unknown[]): string =>
  lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n");

const upload = async (lines: unknown[], client = openai) =>
  client.files.create({ file: await toFile(Buffer.from(jsonl(lines)), "in.jsonl"), purpose: "batch" });

async function submit(
  lines: unknown[],
  endpoint: "/v1/chat/completions" | "/v1/embeddings" | "/v1/completions" = "/v1/chat/completions",
): Promise<Batch> {
  const { id } = await upload(lines);
  return openai.batches.create({ input_file_id: id, endpoint, completion_window: "24h" });
}

const ENDED = ["completed", "failed", "expired", "cancelled"];
async function ended({ id }: { id: string }): Promise<Batch> {
  let batch = await openai.batches.retrieve(id);
  await until(async () => {
    batch = await openai.batches.retrieve(id);
    return ENDED.includes(batch.status);
  }, `the batch ends (it is ${batch.status})`);
  return batch;
}

// biome-ignore lint/suspicious/noExplicitAny: lines of every shape
async function resultsOf(fileId: string | null | undefined): Promise<any[]> {
  if (!fileId) return [];
  const text = await (await openai.files.content(fileId)).text();
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

async function jobsOf(person: Person): Promise<Job[]> {
  return (await world.call("GET", "/api/v1/jobs?limit=200", { as: person })).body.jobs;
}

describe("files", () => {
  it("are kept as they were sent, listed, and deleted", async () => {
    const lines = [chat("one"), chat("two", { user: "ü\u0000" })];
    const file = await upload(lines);
    expect(file).toMatchObject({
      object: "file",
      purpose: "batch",
      filename: "in.jsonl",
      bytes: Buffer.byteLength(jsonl(lines)),
      status: "processed",
    });
    expect(file.expires_at! - file.created_at).toBe(7 * 86_400);
    expect(await openai.files.retrieve(file.id)).toEqual(file);
    expect(await (await openai.files.content(file.id)).text()).toBe(jsonl(lines));
    const listed = [];
    for await (const one of openai.files.list({ purpose: "batch" })) listed.push(one.id);
    expect(listed).toContain(file.id);
    expect(await openai.files.delete(file.id)).toMatchObject({ id: file.id, deleted: true });
    await expect(openai.files.retrieve(file.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(openai.files.content(file.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const { rows } = await world.pool.query("SELECT FROM file_chunks WHERE file_id = $1", [file.id]);
    expect(rows).toEqual([]);
  });

  it("of several chunks come back byte for byte, and are listed page by page", async () => {
    const client = clientOf(await world.person("pages"));
    const bytes = Buffer.alloc(700_001, "0123456789abcde\n");
    const ids: string[] = [];
    for (let i = 0; i < 3; i++)
      ids.push((await client.files.create({ file: await toFile(bytes, "x"), purpose: "batch" })).id);
    expect(Buffer.from(await (await client.files.content(ids[0]!)).arrayBuffer()).equals(bytes)).toBe(true);
    const listed = [];
    for await (const one of client.files.list({ limit: 2, order: "asc" })) listed.push(one.id);
    expect(listed).toEqual(ids);
  });

  it("are another account's business: they are not found, not listed, not run", async () => {
    const { id } = await upload([chat("one")]);
    const stranger = clientOf(await world.person("stranger"));
    for (const attempt of [
      () => stranger.files.retrieve(id),
      () => stranger.files.content(id),
      () => stranger.files.delete(id),
      () =>
        stranger.batches.create({
          input_file_id: id,
          endpoint: "/v1/chat/completions",
          completion_window: "24h",
        }),
    ])
      await expect(attempt()).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    expect((await stranger.files.list()).data).toEqual([]);
    expect((await openai.files.retrieve(id)).id).toBe(id);
  });

  it.each([
    ["purpose", { purpose: "fine-tune" }, "purpose"],
    ["an unknown field", { purpose: "batch", colour: "red" }, "colour"],
    ["a short life", { purpose: "batch", "expires_after[seconds]": "5" }, "expires_after[seconds]"],
  ])("with a wrong field are refused by its name: %s", async (_name, fields, param) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", new Blob(["{}"]), "in.jsonl");
    const before = (await openai.files.list()).data.length;
    const response = await fetch(`${world.hub.url}/v1/files`, {
      method: "POST",
      headers: { authorization: `Bearer ${consumer.key}` },
      body: form,
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param } });
    expect((await openai.files.list()).data.length).toBe(before);
  });

  it.each([
    [413, "bytes", () => Buffer.alloc(64 * 1024 * 1024 + 1, "x")],
    [400, "lines", () => Buffer.alloc(50_001, "\n")],
  ])(
    "above their bounds are refused with %i, and nothing of them stays: %s",
    async (status, words, bytes) => {
      const file = await toFile(bytes(), "big.jsonl");
      const error = await openai.files.create({ file, purpose: "batch" }).catch((thrown) => thrown);
      expect([error.status, error.param, error.message]).toEqual([
        status,
        "file",
        expect.stringContaining(words),
      ]);
      const { rows } = await world.pool.query(
        "SELECT FROM files WHERE NOT ready OR id NOT IN (SELECT file_id FROM file_chunks)",
      );
      expect(rows).toEqual([]);
    },
  );

  it("fill an account up to its bound, and others not at all", async () => {
    const full = await world.person("full");
    await world.pool.query(
      `INSERT INTO files (id, user_id, purpose, filename, bytes, ready, expires_at)
       VALUES ('file_full', $1, 'batch', 'x', 512 * 1024 * 1024, true, now() + interval '1 day')`,
      [full.userId],
    );
    const create = async (client: OpenAI) =>
      client.files.create({ file: await toFile(Buffer.alloc(300_000, "x"), "x"), purpose: "batch" });
    await expect(create(clientOf(full))).rejects.toBeInstanceOf(OpenAI.ConflictError);
    await create(openai);
    await world.pool.query("DELETE FROM files WHERE id = 'file_full'");
    await create(clientOf(full));
  });

  it("that are no form, or have no file, are refused", async () => {
    const json = await world.call("POST", "/v1/files", { as: consumer, body: { purpose: "batch" } });
    expect([json.status, json.body.error.code]).toEqual([415, "unsupported_media_type"]);
    const form = new FormData();
    form.append("purpose", "batch");
    const headers = { authorization: `Bearer ${consumer.key}` };
    const response = await fetch(`${world.hub.url}/v1/files`, { method: "POST", headers, body: form });
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param: "file" } }]);
  });
});

describe("a batch", () => {
  it("answers each line in its place, charges each once, and tells what was wrong with others", async () => {
    const before = await world.available(consumer);
    const lines = [
      ...Array.from({ length: 20 }, (_, i) => chat(`line-${i}`)),
      chat("hot", { temperature: 9 }),
      chat("streams", { stream: true }),
    ];
    const batch = await submit(lines);
    expect(batch).toMatchObject({ object: "batch", status: "validating", completion_window: "24h" });
    const done = await ended(batch);
    expect(done).toMatchObject({
      status: "completed",
      request_counts: { total: 22, completed: 20, failed: 2 },
    });
    const results = await resultsOf(done.output_file_id);
    expect(results.map(({ custom_id }) => custom_id)).toEqual(lines.slice(0, 20).map((l) => l.custom_id));
    for (const { id, response, error } of results) {
      expect(id).toMatch(/^breq_/);
      expect(error).toBeNull();
      expect(response).toMatchObject({
        status_code: 200,
        request_id: response.body.x_gfe.job_id,
        body: {
          object: "chat.completion",
          model: "m",
          choices: [{ message: { content: "The quick brown" } }],
        },
      });
    }
    expect(await resultsOf(done.error_file_id)).toMatchObject([
      { custom_id: "hot", response: { status_code: 400, body: { error: { param: "temperature" } } } },
      { custom_id: "streams", response: { status_code: 400, body: { error: { param: "stream" } } } },
    ]);
    const jobs = new Map((await jobsOf(consumer)).map((job) => [job.id, job]));
    for (const { response } of results)
      expect(jobs.get(response.request_id)).toMatchObject({ state: "completed", cost_micro: String(CREDIT) });
    expect(before - (await world.available(consumer))).toBe(20n * CREDIT);
    const { rows } = await world.pool.query("SELECT DISTINCT priority FROM jobs WHERE id = ANY ($1)", [
      results.map(({ response }) => response.request_id),
    ]);
    expect(rows).toEqual([{ priority: "batch" }]);
  });

  it("has each answer in safety at the moment when it is paid", async () => {
    await world.pool.query(`
      CREATE TABLE paid (job_id text, safe boolean);
      CREATE FUNCTION note_paid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO paid SELECT NEW.id, EXISTS (SELECT FROM deferred_jobs d
          WHERE d.job_id = NEW.id AND d.state = 'answered' AND d.answer LIKE '%quick brown%');
        RETURN NULL;
      END $$;
      CREATE TRIGGER note_paid AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.state = 'completed') EXECUTE FUNCTION note_paid()`);
    await ended(await submit(Array.from({ length: 5 }, (_, i) => chat(`${i}`))));
    const { rows } = await world.pool.query("SELECT safe, count(*)::int AS jobs FROM paid GROUP BY safe");
    await world.pool.query("DROP TRIGGER note_paid ON jobs");
    expect(rows).toEqual([{ safe: true, jobs: 5 }]);
  });

  it("keeps no prompt once it has ended but in the files", async () => {
    const done = await ended(await submit([chat("one")]));
    const { rows } = await world.pool.query("SELECT FROM deferred_jobs WHERE batch_id = $1", [done.id]);
    expect(rows).toEqual([]);
  });

  it("of embeddings or completions is answered in their shapes", async () => {
    const line = (url: string, body: object) => ({ custom_id: "one", method: "POST", url, body });
    const embeddings = await ended(
      await submit([line("/v1/embeddings", { model: "m", input: ["a", "b"] })], "/v1/embeddings"),
    );
    const [vector] = await resultsOf(embeddings.output_file_id);
    expect(vector.response.body).toMatchObject({ object: "list", data: [{ index: 0 }, { index: 1 }] });
    const completions = await ended(
      await submit([line("/v1/completions", { model: "m", prompt: "a", max_tokens: 2 })], "/v1/completions"),
    );
    const [text] = await resultsOf(completions.output_file_id);
    expect(text.response.body).toMatchObject({ object: "text_completion", choices: [{ text: "The quick" }] });
  });

  it("with malformed lines runs none, and names each of them", async () => {
    const before = await world.available(consumer);
    const failed = await ended(
      await submit([
        chat("same"),
        "{not json",
        chat("same"),
        { ...chat("elsewhere"), url: "/v1/embeddings" },
        { ...chat("bare"), body: undefined },
        { ...chat("x"), custom_id: 7 },
        "[]",
        { ...chat("get"), method: "GET" },
      ]),
    );
    expect(failed.status).toBe("failed");
    expect(failed.errors?.data?.map(({ line, code }) => [line, code])).toEqual([
      [2, "invalid_json_line"],
      [3, "duplicate_custom_id"],
      [4, "mismatched_endpoint"],
      [5, "missing_body"],
      [6, "invalid_custom_id"],
      [7, "invalid_json_line"],
      [8, "invalid_method"],
    ]);
    expect(await world.available(consumer)).toBe(before);
  });

  it("of an empty file fails, and says so", async () => {
    expect(await ended(await submit(["\n\n"]))).toMatchObject({
      status: "failed",
      errors: { data: [{ code: "empty_file" }] },
    });
  });

  it("that is cancelled keeps what was answered, and charges nothing for the rest", async () => {
    const before = await world.available(consumer);
    const batch = await submit([
      chat("quick"),
      ...Array.from({ length: 30 }, (_, i) => chat(`${i}`, { model: "slow" })),
    ]);
    await until(
      async () => (await openai.batches.retrieve(batch.id)).request_counts?.completed === 1,
      "one line is answered",
    );
    expect((await openai.batches.cancel(batch.id)).status).toBe("cancelling");
    const done = await ended(batch);
    expect(done).toMatchObject({ status: "cancelled", request_counts: { total: 31, completed: 1 } });
    expect(await resultsOf(done.output_file_id)).toMatchObject([{ custom_id: "quick" }]);
    const left = await resultsOf(done.error_file_id);
    expect(left).toHaveLength(30);
    expect(left.filter(({ error }) => error?.code === "batch_cancelled").length).toBeGreaterThan(10);
    expect(before - (await world.available(consumer))).toBe(CREDIT);
    await expect(openai.batches.cancel(done.id)).resolves.toMatchObject({ status: "cancelled" });
  });

  it("whose window has ended keeps what was answered, and says which lines were not run", async () => {
    const batch = await submit([chat("quick"), chat("late", { model: "nobody-has-this" })]);
    await until(
      async () => (await openai.batches.retrieve(batch.id)).request_counts?.completed === 1,
      "one line is answered",
    );
    await world.pool.query("UPDATE deferred_jobs SET expires_at = now() WHERE batch_id = $1", [batch.id]);
    const done = await ended(batch);
    expect(done).toMatchObject({ status: "expired", request_counts: { total: 2, completed: 1, failed: 0 } });
    expect(done.expired_at).toEqual(expect.any(Number));
    expect(await resultsOf(done.error_file_id)).toMatchObject([
      { custom_id: "late", response: null, error: { code: "batch_expired" } },
    ]);
  });

  it("that costs more than its account has is answered as far as the credit goes", async () => {
    const poor = await world.person("poor");
    const client = clientOf(poor);
    const { id } = await upload(
      Array.from({ length: 105 }, (_, i) => chat(`${i}`)),
      client,
    );
    const { id: batchId } = await client.batches.create({
      ...{ input_file_id: id, endpoint: "/v1/chat/completions", completion_window: "24h" },
    });
    await until(
      async () => (await client.batches.retrieve(batchId)).status === "completed",
      "it is completed",
    );
    const done = await client.batches.retrieve(batchId);
    expect(done.request_counts).toEqual({ total: 105, completed: 100, failed: 5 });
    const errors = await (await client.files.content(done.error_file_id!)).text();
    expect(errors.match(/insufficient_quota/g)!.length).toBeGreaterThanOrEqual(5);
    expect(await world.available(poor)).toBe(0n);
  });

  it("is listed newest first, and is nobody else's", async () => {
    const stranger = clientOf(await world.person("stranger"));
    const mine = (await openai.batches.list({ limit: 2 })).data;
    expect(mine).toHaveLength(2);
    expect(mine[0]!.created_at).toBeGreaterThanOrEqual(mine[1]!.created_at);
    expect((await stranger.batches.list()).data).toEqual([]);
    await expect(stranger.batches.retrieve(mine[0]!.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(stranger.batches.cancel(mine[0]!.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });

  it.each([
    ["endpoint", { endpoint: "/v1/responses" }],
    ["completion_window", { completion_window: "1h" }],
    ["input_file_id", { input_file_id: undefined }],
  ])("is refused with a wrong %s", async (param, wrong) => {
    const right = { input_file_id: "file_x", endpoint: "/v1/embeddings", completion_window: "24h" };
    const body = { ...right, ...wrong };
    const { status, body: answer } = await world.call("POST", "/v1/batches", { as: consumer, body });
    expect([status, answer.error.param]).toEqual([400, param]);
  });
});
