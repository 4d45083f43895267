import { disputeSchema, type NodeReputation } from "@gfe/protocol";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { call, newAgentToken, newKey, type Person } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { joinNode, type TestNode } from "../../testing/test-node.ts";

let hub: TestHub;
let provider: Person;
let consumer: Person;
let as: { key: string };
let node: TestNode;
let fail = false;

async function ask(who: Parameters<typeof call>[2] = as): Promise<string> {
  const chat = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 10 };
  const { status, body } = await call(hub, "POST /v1/chat/completions", who, chat);
  expect(status).toBe(200);
  return body.x_gfe.job_id;
}
const dispute = (id: string, body: object = { reason: "gibberish" }, who: Parameters<typeof call>[2] = as) =>
  call(hub, `POST /api/v1/jobs/${id}/dispute`, who, body);
async function reputation() {
  const { body } = await call(hub, `GET /api/v1/nodes/${node.nodeId}/reputation`);
  return (body as NodeReputation).models[0]!;
}
const disputesPart = async () => (await reputation()).parts.find(({ name }) => name === "disputes")!;

beforeAll(async () => {
  hub = await startTestHub();
  provider = await hub.signUp();
  consumer = await hub.signUp();
  as = { key: (await newKey(hub, consumer, ["inference", "read"])).key };
  node = await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, {
    onStart(start, self) {
      if (fail) {
        self.send({ type: "attempt.failed", attempt: start.attempt, code: "engine_error", message: "" });
        return;
      }
      self.say(start, "word");
      void self.done(start, 1);
    },
  });
});
afterAll(() => hub?.close());
beforeEach(() => {
  fail = false;
});

test("a dispute costs the node reputation, moves no credits, and is told to both sides, to the provider without a name", async () => {
  const id = await ask();
  const before = await reputation();
  const balances = () =>
    Promise.all(
      [consumer, provider].map(async (one) => (await call(hub, "GET /api/v1/me", one)).body.balance),
    );
  const owned = await balances();
  const { status, body } = await dispute(id, { reason: "wrong_model", note: "It spoke of llamas." });
  expect([status, disputeSchema.parse(body.dispute)]).toEqual([201, body.dispute]);
  const told = { job_id: id, node_id: node.nodeId, model: "m", reason: "wrong_model" };
  expect(body.dispute).toMatchObject({ ...told, note: "It spoke of llamas.", weight: 0.5 });
  expect(await balances()).toEqual(owned);

  const after = await reputation();
  expect(after.score).toBeLessThan(before.score);
  expect(after.score).toBeGreaterThan((before.score * 10) / 11 - 0.1);
  expect(await disputesPart()).toMatchObject({ multiplies: true, evidence: /weight of 0.5 beside 1 jobs/ });
  expect(after.reasons.map(({ words }) => words)).toContain(
    "a consumer disputed an answer as another model's",
  );

  const lists = [
    await call(hub, "GET /api/v1/disputes", as),
    await call(hub, "GET /api/v1/disputes?role=provider", provider),
  ];
  for (const list of lists) expect(list.body).toEqual({ disputes: [body.dispute], next: null });
  expect(JSON.stringify(lists[1]!.body)).not.toContain(consumer.userId);
  expect((await call(hub, "GET /api/v1/disputes", provider)).body.disputes).toEqual([]);
});

describe("refused, and the reputation stays as it was, is", () => {
  test.each<[what: string, () => Promise<[string, Parameters<typeof call>[2]?, object?]>, number, string]>([
    ["a second dispute of a job", async () => [await twice()], 409, "disputed already"],
    ["somebody else's job", async () => [await ask(), await hub.signUp()], 403, "Only who paid"],
    ["the provider's view of a job", async () => [await ask(), provider], 403, "Only who paid"],
    ["a failed job", async () => [await failed()], 409, "The job is failed"],
    ["a job of one's own node", async () => [await ownNode()], 403, "Your own node"],
    ["a job of the day before", async () => [await old()], 409, "for 24 hours"],
    ["a job that nobody knows", async () => ["job_none"], 404, "no such job"],
    ["no reason", async () => [await ask(), as, {}], 400, "reason"],
    ["a reason of one's own", async () => [await ask(), as, { reason: "dull" }], 400, "reason"],
    ["a long note", async () => [await ask(), as, { reason: "other", note: "x".repeat(501) }], 400, "note"],
    ["a stranger's", async () => [await ask(), { key: "gfe_sk_nonsense" }], 401, "API key"],
  ])("%s", async (_what, given, expected, words) => {
    const [id, who, body] = await given();
    const before = await standing();
    const answer = await dispute(id, body, who);
    expect([answer.status, JSON.stringify(answer.body)]).toEqual([expected, expect.stringContaining(words)]);
    const after = await standing();
    expect(after.disputes).toEqual(before.disputes);
    expect([...after.weights.keys()]).toEqual([...before.weights.keys()]);
    // Weights fade, and are told in tenths.
    for (const [reason, weight] of after.weights)
      expect(weight).toBeLessThanOrEqual(before.weights.get(reason)!);
  });

  async function standing() {
    const { reasons } = await reputation();
    return {
      disputes: (await call(hub, "GET /api/v1/disputes?role=provider", provider)).body,
      weights: new Map(
        reasons
          .filter(({ reason }) => reason.startsWith("disputed_"))
          .map(({ reason, weight }) => [reason, weight]),
      ),
    };
  }

  async function twice(): Promise<string> {
    const id = await ask();
    expect((await dispute(id)).status).toBe(201);
    return id;
  }
  async function failed(): Promise<string> {
    fail = true;
    const chat = { model: "m", messages: [{ role: "user", content: "hi" }] };
    expect((await call(hub, "POST /v1/chat/completions", as, chat)).status).toBe(502);
    return (await call(hub, "GET /api/v1/jobs?state=failed", as)).body.jobs[0].id;
  }
  async function changed(set: string, value: unknown): Promise<string> {
    const id = await ask();
    await hub.pool.query(`UPDATE jobs SET ${set} = $2 WHERE id = $1`, [id, value]);
    return id;
  }
  const ownNode = () => changed("provider_id", consumer.userId);
  const old = () => changed("ended_at", new Date(Date.now() - 25 * 3_600_000));
});

test("a consumer who disputes everything, even at once, weighs no more than 1 in all", async () => {
  const ids = await Promise.all(Array.from({ length: 8 }, () => ask()));
  for (let waiting = ids; waiting.length > 0; ) {
    const answers = await Promise.all(waiting.map((id) => dispute(id)));
    expect(answers.filter(({ status }) => status !== 201 && status !== 429)).toEqual([]);
    waiting = waiting.filter((_, i) => answers[i]!.status === 429); // one after the other
  }
  const { body } = await call(hub, "GET /api/v1/disputes?limit=3", as);
  expect(body.disputes).toHaveLength(3);
  const rest = await call(hub, `GET /api/v1/disputes?before=${body.next}`, as);
  const all = [...body.disputes, ...rest.body.disputes];
  expect(new Set(all.map(({ job_id }) => job_id)).size).toBe(all.length);
  const sum = all.reduce((total, { weight }) => total + weight, 0);
  expect(sum).toBeLessThanOrEqual(1);
  expect(all[0].weight).toBeLessThan(0.1);
});

test("a submitted job is disputed by its own id", async () => {
  const { body } = await call(hub, "POST /api/v1/jobs", as, {
    model: "m",
    messages: [{ role: "user", content: "hi" }],
  });
  const { id } = body.job;
  await expect
    .poll(async () => (await call(hub, `GET /api/v1/jobs/${id}`, as)).body.state, { timeout: 10_000 })
    .toBe("completed");
  const { job_id } = (await call(hub, `GET /api/v1/jobs/${id}`, as)).body;
  expect((await dispute(id)).body.dispute.job_id).toBe(job_id);
  expect((await dispute(job_id)).status).toBe(409);
});
