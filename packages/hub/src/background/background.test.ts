import { spawn } from "node:child_process";
import { once } from "node:events";
import type pg from "pg";
import { afterEach, beforeEach, expect, it, onTestFinished } from "vitest";
import { createPool } from "../db/pool.ts";
import { createTestDatabase } from "../testing/database.ts";
import { type Background, startBackground, type Work } from "./background.ts";

const TIMES = { superviseS: 1, pollSMax: 0.5 };

let pool: pg.Pool;
let url: string;
let backgrounds: Background[];
let pools: pg.Pool[];
let warnings: { work?: string; error: string }[];
let undo: () => Promise<void>;
beforeEach(async () => {
  const database = await createTestDatabase();
  url = database.url;
  [backgrounds, pools, warnings] = [[], [], []];
  pool = poolOf();
  await pool.query("CREATE TABLE done (hub text, at timestamptz DEFAULT now())");
  undo = async () => {
    await Promise.all(backgrounds.map((background) => background.stop()));
    await Promise.all(pools.filter((one) => !one.ending).map((one) => one.end()));
    await database.drop();
  };
});
afterEach(() => undo());

function poolOf(): pg.Pool {
  const made = createPool(url, () => {});
  pools.push(made);
  return made;
}
function hub(works: Work[], on = poolOf()): Background {
  const log = { warn: (fields: object) => void warnings.push(fields as { error: string }) };
  const background = startBackground({
    ...{ pool: on, works, log },
    times: TIMES,
  });
  backgrounds.push(background);
  return background;
}
const noting = (name: string): Work => ({
  name: "noting",
  everyS: 1,
  run: () => pool.query("INSERT INTO done (hub) VALUES ($1)", [name]),
});
const done = async () =>
  (
    await pool.query<{ hub: string; second: string }>(
      "SELECT hub, extract(epoch FROM at)::text AS second FROM done ORDER BY at",
    )
  ).rows;
const WAIT = { timeout: 25_000, interval: 50 };

it("does what is due at one hub of all, once for each time", async () => {
  for (const name of ["a", "b", "c"]) hub([noting(name)]);
  const sinceMs = Date.now();
  await expect.poll(async () => (await done()).length, WAIT).toBeGreaterThanOrEqual(4);
  // Three hubs would have done it three times as often.
  expect((await done()).length).toBeLessThanOrEqual(Math.ceil((Date.now() - sinceMs) / 1_000) + 1);
});

it("tries again what failed, after a while, and says so", async () => {
  const triesMs: number[] = [];
  const background = hub([
    {
      ...{ name: "failing", everyS: 600 },
      async run() {
        if (triesMs.push(performance.now()) < 2) throw new Error("not now");
      },
    },
  ]);
  await expect.poll(() => background.state()[0]!.lastSuccessS, WAIT).toBeGreaterThan(0);
  expect(triesMs).toHaveLength(2);
  expect(triesMs[1]! - triesMs[0]!).toBeGreaterThan(900);
  expect(warnings).toEqual([{ work: "failing", error: "Error: not now" }]);
  expect(background.state()).toMatchObject([{ work: "failing", failures: 1 }]);
});

it("cuts off what takes too long, says so and tries it again", async () => {
  let tries = 0;
  const background = hub([
    {
      ...{ name: "hanging", everyS: 600, limitS: 1 },
      async run(signal) {
        if (++tries === 1) await new Promise((_, reject) => signal.addEventListener("abort", reject));
      },
    },
  ]);
  await expect.poll(() => background.state()[0]!.lastSuccessS, WAIT).toBeGreaterThan(0);
  expect([tries, background.state()[0]!.failures]).toEqual([2, 1]);
  expect(warnings).toEqual([{ work: "hanging", error: "Error: it took too long" }]);
});

it("does again what the database left half done, and goes on", async () => {
  let tries = 0;
  const background = hub([
    {
      ...{ name: "noting", everyS: 600 },
      async run() {
        if (++tries === 1) await pool.query("SELECT pg_sleep(60)");
        await pool.query("INSERT INTO done (hub) VALUES ('a')");
      },
    },
    { ...noting("b"), name: "going-on" },
  ]);
  const sleeping = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(60)'";
  await expect.poll(async () => (await pool.query(`SELECT ${sleeping}`)).rowCount, WAIT).toBe(1);
  await pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  const cutAt = (await pool.query<{ at: Date }>("SELECT clock_timestamp() AS at")).rows[0]!.at;
  const since = async () => {
    // That it failed may have been cut off too: then it is found as that of a dead hub is.
    await pool.query(
      "UPDATE background.job SET heartbeat_on = now() - interval '1 hour' WHERE state = 'active' AND started_on < $1",
      [cutAt],
    );
    return (await pool.query("SELECT DISTINCT hub FROM done WHERE at > $1 ORDER BY hub", [cutAt])).rows;
  };
  await expect.poll(since, WAIT).toEqual([{ hub: "a" }, { hub: "b" }]);
  expect(background.state()[0]).toMatchObject({ failures: 1 });
});

it("waits for what it does when it stops, and the others go on", async () => {
  const began = Promise.withResolvers<void>();
  const ends = Promise.withResolvers<void>();
  const first = hub([
    {
      ...{ name: "noting", everyS: 1 },
      run() {
        began.resolve();
        return ends.promise;
      },
    },
  ]);
  await began.promise;
  let stopped = false;
  const stopping = first.stop().then(() => {
    stopped = true;
  });
  hub([noting("other")]);
  await expect.poll(async () => (await pool.query("SELECT FROM background.job")).rowCount, WAIT).toBe(2);
  expect([stopped, await done()]).toEqual([false, []]);
  ends.resolve();
  await stopping;
  await expect.poll(async () => (await done()).length, WAIT).toBeGreaterThanOrEqual(1);
});

it("stops in bounded time whatever hangs, which is another hub's at once", async () => {
  const began = Promise.withResolvers<void>();
  const cut = Promise.withResolvers<void>();
  const first = hub([
    {
      ...{ name: "noting", everyS: 600 },
      run(signal) {
        began.resolve();
        signal.addEventListener("abort", () => cut.resolve());
        return new Promise(() => {});
      },
    },
  ]);
  await began.promise;
  const sinceMs = performance.now();
  await first.stop();
  expect(performance.now() - sinceMs).toBeLessThan(8_000);
  await cut.promise;
  hub([{ ...noting("other"), everyS: 600 }]);
  await expect.poll(async () => (await done()).map(({ hub }) => hub), WAIT).toEqual(["other"]);
});

it("what a hub had taken that was killed is done by another, once", async () => {
  const module = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const program = `
    import { createPool } from ${module("../db/pool.ts")};
    import { startBackground } from ${module("./background.ts")};
    const hang = () => new Promise(() => console.log("taken"));
    const pool = createPool(${JSON.stringify(url)}, () => {});
    startBackground({ pool, works: [{ name: "noting", everyS: 600, run: hang }], log: { warn() {} }, times: ${JSON.stringify(TIMES)} });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const ended = once(child, "exit");
  await Promise.race([once(child.stdout, "data"), ended]);
  child.kill("SIGKILL");
  expect(await ended).toEqual([null, "SIGKILL"]);
  for (const name of ["b", "c"]) hub([{ ...noting(name), everyS: 600 }]);
  // As if the time after which it is dead were over.
  await pool.query(
    "UPDATE background.job SET heartbeat_on = now() - interval '1 hour' WHERE state = 'active'",
  );
  await expect.poll(async () => (await done()).length, WAIT).toBe(1);
  await expect
    .poll(async () => (await pool.query("SELECT DISTINCT state FROM background.job")).rows, WAIT)
    .toEqual([{ state: "completed" }]);
  expect(await done()).toHaveLength(1);
});

it("starts when the database does, and stops though it never came", async () => {
  const log = { warn: () => {} };
  const nowhere = createPool("postgres://127.0.0.1:1/none", () => {});
  const background = startBackground({ pool: nowhere, works: [noting("a")], log });
  await background.stop();
  await nowhere.end();
});
