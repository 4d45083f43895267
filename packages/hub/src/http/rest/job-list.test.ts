import { type Job, jobSchema, newId } from "@gfe/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { databaseClock } from "../../db/clock.ts";
import { call, newAgentToken, newKey, type Person } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { joinNode } from "../../testing/test-node.ts";

let hub: TestHub;
let consumer: Person;
let provider: Person;
/** Oldest first: two jobs that ran, with submitted ones before, between and after them. */
const ids: string[] = [];
let release: (() => void)[] = [];
let nowMs: () => number;

beforeAll(async () => {
  hub = await startTestHub();
  nowMs = await databaseClock(hub.pool, { warn() {} });
  [provider, consumer] = [await hub.signUp(), await hub.signUp()];
  await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, {
    onStart(start, node) {
      node.say(start, "word");
      const end = () => void node.done(start, 1);
      if (start.body.max_tokens === 7) release.push(end);
      else end();
    },
  });
  const { key } = await newKey(hub, consumer, ["inference"]);
  for (const kind of ["djob", "job", "djob", "job", "djob"]) {
    if (kind === "djob") ids.push(await waiting(consumer));
    else {
      const chat = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 10 };
      ids.push((await call(hub, "POST /v1/chat/completions", { key }, chat)).body.x_gfe.job_id);
    }
    await passes(CLOCKS_APART_MS);
  }
});
afterAll(() => hub?.close());

/** Two clocks that were set by one database agree to within the time that it took to answer. */
const CLOCKS_APART_MS = 150;
async function passes(ms: number): Promise<void> {
  const startedAt = performance.now();
  while (performance.now() - startedAt < ms) await new Promise((resolve) => setImmediate(resolve));
}
/** A submitted job that no hub may take for an hour. */
async function waiting({ userId }: Person, more: { batch?: string } = {}): Promise<string> {
  const id = newId("djob", nowMs());
  await hub.pool.query(
    `INSERT INTO deferred_jobs (id, user_id, payer, lane, batch_id, kind, model, priority, body, expires_at, not_before)
     VALUES ($1, $2, '{}', $3, $4, 'chat', 'm', 'standard', '{}', now() + interval '1 day', now() + interval '1 hour')`,
    [id, userId, more.batch ?? `account:${userId}`, more.batch ?? null],
  );
  return id;
}
async function list(query = "", as = consumer): Promise<{ jobs: Job[]; next: string | null }> {
  const { status, body } = await call(hub, `GET /api/v1/jobs${query}`, as);
  expect(status).toBe(200);
  for (const job of body.jobs) expect(jobSchema.parse(job)).toEqual(job);
  return body;
}
const idsOf = ({ jobs }: { jobs: Job[] }): string[] => jobs.map(({ id }) => id);

test("what waits is listed among what ran, newest first, with its place among one's own", async () => {
  const { jobs } = await list();
  expect(idsOf({ jobs })).toEqual(ids.toReversed());
  expect(jobs.map(({ state, position }) => [state, position])).toEqual([
    ["queued", 3],
    ["completed", undefined],
    ["queued", 2],
    ["completed", undefined],
    ["queued", 1],
  ]);
  expect((await call(hub, `GET /api/v1/jobs/${ids[2]}`, consumer)).body).toMatchObject({
    state: "queued",
    position: 2,
  });
});

test.each([1, 2, 3])("by pages of %d every one is seen once", async (limit) => {
  const seen: string[] = [];
  for (let next: string | null = "", pages = 0; next !== null && pages < 10; pages++) {
    const page = await list(`?limit=${limit}${next === "" ? "" : `&before=${next}`}`);
    expect(page.jobs.length).toBeLessThanOrEqual(limit);
    seen.push(...idsOf(page));
    next = page.next;
  }
  expect(seen).toEqual(ids.toReversed());
});

test("a state finds both kinds by what they are now", async () => {
  const [first, second, third] = [ids[0]!, ids[2]!, ids[4]!];
  expect(idsOf(await list("?state=queued"))).toEqual([third, second, first]);
  expect(idsOf(await list("?state=completed"))).toEqual([ids[3], ids[1]]);
  expect(idsOf(await list("?state=running"))).toEqual([]);
  const gone = await waiting(consumer);
  expect((await call(hub, `DELETE /api/v1/jobs/${gone}`, consumer)).status).toBe(204);
  expect(idsOf(await list("?state=cancelled"))).toEqual([gone]);
  await hub.pool.query("DELETE FROM deferred_jobs WHERE id = $1", [gone]);
});

test("nobody else sees them, nor the provider whose nodes may run them", async () => {
  for (const role of ["consumer", "provider"])
    expect(idsOf(await list(`?role=${role}`, await hub.signUp()))).toEqual([]);
  expect(idsOf(await list("?role=provider", provider))).toEqual([ids[3], ids[1]]);
});

test("lines of batches are not among them: a batch tells of its own", async () => {
  await hub.pool.query(
    `INSERT INTO batches (id, user_id, payer, endpoint, input_file_id, completion_window, state, expires_at)
     VALUES ('batch_x', $1, '{}', '/v1/chat/completions', 'f', '24h', 'in_progress', now() + interval '1 day')`,
    [consumer.userId],
  );
  await waiting(consumer, { batch: "batch_x" });
  expect(idsOf(await list())).toEqual(ids.toReversed());
  await hub.pool.query("DELETE FROM batches");
});

test("one that runs is listed once: as the job that it has become", async () => {
  const person = await hub.signUp();
  release = [];
  const body = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 7 };
  const { id } = (await call(hub, "POST /api/v1/jobs", person, { body })).body.job;
  await expect.poll(() => release.length, { timeout: 5_000 }).toBe(1);
  await expect.poll(async () => (await list("", person)).jobs[0]?.id).toMatch(/^job_/);
  expect(await list("?state=running", person)).toMatchObject({ jobs: [{ state: "running" }] });
  release[0]!();
  await expect
    .poll(async () => (await call(hub, `GET /api/v1/jobs/${id}`, person)).body.state)
    .toBe("completed");
  const after = await list("", person);
  expect(after.jobs).toMatchObject([{ state: "completed" }]);
  expect(after.jobs[0]!.id).toMatch(/^job_/);
});
