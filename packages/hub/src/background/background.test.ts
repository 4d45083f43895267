import type pg from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createPool } from "../db/pool.ts";
import { createTestDatabase } from "../testing/database.ts";
import { type Background, startBackground, type Work } from "./background.ts";

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
    times: { superviseS: 1, pollSMax: 1 },
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

it("tries again what failed, and says so", async () => {
  let tries = 0;
  hub([
    {
      ...{ name: "failing", everyS: 600 },
      async run() {
        if (++tries < 2) throw new Error("not now");
      },
    },
  ]);
  await expect.poll(() => tries, WAIT).toBe(2);
  expect(warnings).toEqual([{ work: "failing", error: "Error: not now" }]);
});

it("goes on when the database was away", async () => {
  hub([noting("a")]);
  await expect.poll(async () => (await done()).length, WAIT).toBeGreaterThanOrEqual(1);
  await pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  const before = (await done()).length;
  await expect.poll(async () => (await done()).length, WAIT).toBeGreaterThan(before + 1);
});

it("a hub that stops waits for what it does and begins nothing new; the others go on", async () => {
  let finish = () => {};
  let ended = false;
  const first = hub([
    {
      ...{ name: "noting", everyS: 1 },
      run: () =>
        new Promise<void>((resolve) => {
          finish = () => {
            ended = true;
            resolve();
          };
        }),
    },
  ]);
  await expect
    .poll(() => {
      finish();
      return ended;
    }, WAIT)
    .toBe(true);
  await first.stop();
  hub([noting("other")]);
  await expect.poll(async () => (await done()).length, WAIT).toBeGreaterThanOrEqual(2);
  expect(new Set((await done()).map(({ hub }) => hub))).toEqual(new Set(["other"]));
});

it("what a hub had taken that died is done by another", async () => {
  let taken = false;
  const dying = poolOf();
  hub(
    [
      {
        ...{ name: "noting", everyS: 600 },
        run() {
          taken = true;
          return new Promise(() => {});
        },
      },
    ],
    dying,
  );
  await expect.poll(() => taken, WAIT).toBe(true);
  await dying.end();
  hub([{ ...noting("other"), everyS: 600 }]);
  // As if the time after which it is dead were over.
  await pool.query(
    "UPDATE background.job SET heartbeat_on = now() - interval '1 hour' WHERE state = 'active'",
  );
  await expect.poll(async () => (await done()).map(({ hub }) => hub), WAIT).toEqual(["other"]);
});

it("starts when the database does, and stops though it never came", async () => {
  const log = { warn: () => {} };
  const nowhere = createPool("postgres://127.0.0.1:1/none", () => {});
  const background = startBackground({ pool: nowhere, works: [noting("a")], log });
  await background.stop();
  await nowhere.end();
});
