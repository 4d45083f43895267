import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { migrate } from "../../db/migrate.ts";
import { createTestDatabase } from "../../testing/database.ts";
import {
  addDeferred,
  type ClaimBounds,
  type ClaimedJob,
  claim,
  finish,
  keepAnswer,
  putBack,
  recover,
  WAITING_MAX,
} from "./store.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pool: pg.Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = new pg.Pool({ connectionString: database.url, max: 6 });
  await migrate(pool);
  await pool.query(
    `INSERT INTO "user" ("id", "name", "email", "emailVerified", "updatedAt")
     SELECT u, u, u, true, now() FROM unnest(ARRAY['a', 'b', 'c']) u`,
  );
});
beforeEach(() => pool.query("TRUNCATE deferred_jobs, batches, webhooks, webhook_deliveries, jobs"));
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const add = async (userId: string): Promise<string> =>
  (
    await addDeferred(
      pool,
      {
        payer: { userId, account: `user:${userId}` },
        kind: "chat",
        model: "m",
        priority: "standard",
        body: { model: "m" },
      },
      Date.now(),
    )
  ).id;
const take = async (bounds: Partial<ClaimBounds> = {}) =>
  claim(pool, {
    ...{ hubId: "hub", room: 100, perLane: 100, lanes: {}, accounts: {}, resting: [] },
    ...bounds,
  });
const states = async (): Promise<Record<string, string>> =>
  Object.fromEntries(
    (await pool.query("SELECT id, state FROM deferred_jobs")).rows.map(({ id, state }) => [id, state]),
  );
function countsOf(jobs: { userId: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { userId } of jobs) counts[userId] = (counts[userId] ?? 0) + 1;
  return counts;
}

describe("what is claimed", () => {
  test("is the oldest of each lane, within its bound and the room that is left", async () => {
    const ids: string[] = [];
    for (let n = 0; n < 10; n++) ids.push(await add("a"));
    expect((await take({ perLane: 3 })).map(({ id }) => id).sort()).toEqual(ids.slice(0, 3));
    expect(await take({ perLane: 3, lanes: { "account:a": 3 } })).toEqual([]);
    expect(await take({ perLane: 5, lanes: { "account:a": 3 } })).toHaveLength(2);
    expect(await take({ room: 1 })).toHaveLength(1);
  });

  test("is shared between accounts: who has least running comes first, however many another has waiting", async () => {
    for (let n = 0; n < 30; n++) await add("a");
    for (const user of ["b", "c"]) for (let n = 0; n < 4; n++) await add(user);
    expect(countsOf(await take({ room: 6 }))).toEqual({ a: 2, b: 2, c: 2 });
    expect(countsOf(await take({ room: 4, accounts: { a: 2 } }))).toEqual({ b: 2, c: 2 });
    expect(countsOf(await take({ room: 5 }))).toEqual({ a: 5 });
  });

  test("is never what rests, is put off, or is too old", async () => {
    const [resting, later, old, due] = [await add("a"), await add("b"), await add("b"), await add("b")];
    await pool.query("UPDATE deferred_jobs SET not_before = now() + interval '1 minute' WHERE id = $1", [
      later,
    ]);
    await pool.query("UPDATE deferred_jobs SET expires_at = now() WHERE id = $1", [old]);
    expect((await take({ resting: ["account:a"] })).map(({ id }) => id)).toEqual([due]);
    expect((await take()).map(({ id }) => id)).toEqual([resting]);
  });

  test("is claimed by one hub only, however many ask at once", async () => {
    for (let n = 0; n < 40; n++) await add(n % 2 ? "a" : "b");
    const taken = (
      await Promise.all(Array.from({ length: 6 }, (_, n) => take({ hubId: `hub${n}`, room: 10 })))
    ).flat();
    expect(new Set(taken.map(({ id }) => id)).size).toBe(taken.length);
    expect(Object.values(await states()).filter((state) => state === "running")).toHaveLength(taken.length);
  });
});

describe("a hub that starts", () => {
  const settled = async (id: string, state: "completed" | "failed" | "running") =>
    pool.query(
      `INSERT INTO jobs (id, consumer_id, kind, model, state, held_micro, quote, hub_id, created_at)
       VALUES ($1, 'a', 'chat', 'm', $2, 1, '{}', 'hub', now())`,
      [id, state],
    );

  test("keeps what was paid, and runs again what was not: whichever moment its predecessor died in", async () => {
    const [running, kept, voided, paid, still, elsewhere] = [
      await add("a"),
      await add("a"),
      await add("a"),
      await add("a"),
      await add("a"),
      await add("a"),
    ];
    const taken = new Map((await take()).map((job) => [job.id, job]));
    for (const [id, jobId] of [
      [kept, "job_never_held"],
      [voided, "job_voided"],
      [paid, "job_paid"],
    ] as const)
      await keepAnswer(pool, taken.get(id)!, jobId, '{"answer":1}');
    await settled("job_voided", "failed");
    await settled("job_paid", "completed");
    await pool.query("UPDATE deferred_jobs SET hub_id = 'another' WHERE id = $1", [elsewhere]);
    await recover(pool, "hub", [still]);
    expect(await states()).toEqual({
      [running]: "queued",
      [kept]: "queued",
      [voided]: "queued",
      [paid]: "completed",
      [still]: "running",
      [elsewhere]: "running",
    });
    const { rows } = await pool.query("SELECT id FROM deferred_jobs WHERE answer IS NOT NULL");
    expect(rows).toEqual([{ id: paid }]);
  });

  test("leaves a settlement that is still being written alone", async () => {
    const id = await add("a");
    const [taken] = await take();
    await keepAnswer(pool, taken!, "job_settling", "{}");
    await settled("job_settling", "running");
    await recover(pool, "hub", []);
    expect(await states()).toEqual({ [id]: "answered" });
  });
});

test("a job ends once: a second end changes nothing and is not told", async () => {
  await pool.query(
    `INSERT INTO webhooks (id, user_id, url, events, secret) VALUES ('w', 'a', 'u', ARRAY['job.completed', 'job.failed'], 's')`,
  );
  const id = await add("a");
  const [taken] = await take();
  await finish(pool, taken!, { state: "completed" });
  await finish(pool, taken!, { state: "failed", error: { code: "internal", message: "" } });
  expect(await states()).toEqual({ [id]: "completed" });
  expect((await pool.query("SELECT event FROM webhook_deliveries")).rows).toEqual([
    { event: "job.completed" },
  ]);
});

describe("a hub that was found dead and lives", () => {
  const lost = async (): Promise<ClaimedJob> => {
    await add("a");
    const [taken] = await take();
    await recover(pool, "hub", []);
    return taken!;
  };
  const late: Record<string, (claim: ClaimedJob) => Promise<unknown>> = {
    answer: (claim) => keepAnswer(pool, claim, "job_late", "{}"),
    end: (claim) => finish(pool, claim, { state: "completed" }, "{}"),
    "putting back": (claim) => putBack(pool, claim, 0, true),
  };
  const row = async () => (await pool.query("SELECT * FROM deferred_jobs")).rows[0];

  test.each(Object.keys(late))(
    "changes nothing by its late %s, whoever has the job by then",
    async (what) => {
      const first = await lost();
      for (const hubId of ["another", "hub"]) {
        const waiting = await row();
        await late[what]!(first);
        expect(await row()).toEqual(waiting);
        expect(await take({ hubId })).toHaveLength(1);
        const running = await row();
        await late[what]!(first);
        expect(await row()).toEqual(running);
        await recover(pool, hubId, []);
      }
    },
  );

  test("is told that its answer is not wanted, and the one that has the job now is not", async () => {
    const first = await lost();
    const [second] = await take({ hubId: "another" });
    expect(await keepAnswer(pool, first, "job_late", "{}")).toBe(false);
    expect(await keepAnswer(pool, second!, "job_second", "{}")).toBe(true);
  });
});

test("an account has so many waiting and no more", async () => {
  await pool.query(
    `INSERT INTO deferred_jobs (id, user_id, payer, lane, kind, model, priority, expires_at)
     SELECT 'x' || n, 'a', '{}', 'account:a', 'chat', 'm', 'batch', now() + interval '1 hour' FROM generate_series(1, $1) n`,
    [WAITING_MAX],
  );
  await expect(add("a")).rejects.toMatchObject({ code: "conflict" });
  await add("b");
});

test("claiming walks from lane to lane: 50,000 waiting lines cost it next to nothing", async () => {
  await pool.query(
    `INSERT INTO deferred_jobs (id, user_id, payer, lane, kind, model, priority, body, expires_at)
     SELECT 'x' || n, 'a', '{}', 'batch_' || n % 5, 'chat', 'm', 'batch', '{}', now() + interval '1 hour' FROM generate_series(1, 50000) n`,
  );
  await pool.query("ANALYZE deferred_jobs");
  const startedAt = performance.now();
  for (let n = 0; n < 10; n++) expect(await take({ room: 16, perLane: 16 })).toHaveLength(16);
  expect((performance.now() - startedAt) / 10).toBeLessThan(200);
});
