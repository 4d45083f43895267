import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseConfig } from "../config.ts";
import { type Hub, startHub } from "../hub.ts";
import { createTestDatabase } from "../testing/database.ts";
import { migrate, ownMigrations } from "./migrate.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pools: pg.Pool[];
beforeEach(async () => {
  database = await createTestDatabase();
  pools = [];
});
afterEach(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
  await database.drop();
});

function pool(): pg.Pool {
  const made = new pg.Pool({ connectionString: database.url, max: 3 });
  pools.push(made);
  return made;
}

const one = { name: "one", sql: "CREATE TABLE one (n int)" };
const two = { name: "two", sql: "CREATE TABLE two (n int); INSERT INTO two VALUES (2)" };

test("each migration is applied once, in order, and only what is new later", async () => {
  const db = pool();
  expect(await migrate(db, [one])).toEqual(["one"]);
  expect(await migrate(db, [one, two])).toEqual(["two"]);
  expect(await migrate(db, [one, two])).toEqual([]);
  expect((await db.query("SELECT n FROM two")).rows).toEqual([{ n: 2 }]);
});

test("several hubs that start at once share the work and get in nobody's way", async () => {
  const added = await Promise.all(Array.from({ length: 5 }, () => migrate(pool(), [one, two])));
  expect(added.flat().sort()).toEqual(["one", "two"]);
});

test("one that fails leaves the database as it was, those before it undone too, and is named", async () => {
  const db = pool();
  await migrate(db, [one]);
  const broken = { name: "broken", sql: "CREATE TABLE half (n int); SELECT 1 / 0" };
  const failed = await migrate(db, [one, two, broken]).catch((error: Error) => error);
  expect(failed).toMatchObject({
    message: expect.stringMatching(/^The migration broken failed, and the database is as it was: start the/),
    cause: { message: "division by zero" },
  });
  expect((await db.query("SELECT name FROM migrations")).rows).toEqual([{ name: "one" }]);
  for (const table of ["two", "half"])
    await expect(db.query(`SELECT FROM ${table}`)).rejects.toThrow("does not exist");
  expect(await migrate(db, [one])).toEqual([]); // the former program starts
  expect(await migrate(db, [one, two])).toEqual(["two"]);
});

test("nothing of a first start that fails is left, and nothing holds up the next", async () => {
  const db = pool();
  await expect(migrate(db, [one, { name: "broken", sql: "nonsense" }])).rejects.toThrow("broken failed");
  const { rows } = await db.query("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace");
  expect(rows).toEqual([]);
  expect(await migrate(db, [one], 100)).toEqual(["one"]);
});

describe("while another hub migrates", () => {
  /** Runs until it is let go; nobody else sees anything of it before. */
  const slow = { name: "slow", sql: "CREATE TABLE slow (n int); SELECT pg_advisory_xact_lock(1)" };

  async function during(step: (admin: pg.Pool) => Promise<unknown>): Promise<string[]> {
    const admin = pool();
    const gate = await admin.connect();
    await gate.query("SELECT pg_advisory_lock(1)");
    const first = migrate(pool(), [one, slow]);
    await untilWaiting(admin, 1);
    await step(admin);
    await gate.query("SELECT pg_advisory_unlock(1)");
    gate.release();
    return first;
  }

  test("a hub waits for it, and then has nothing to do", async () => {
    let second: Promise<string[]> | undefined;
    const added = await during(async (admin) => {
      second = migrate(pool(), [one, slow]);
      await untilWaiting(admin, 2);
    });
    expect(added).toEqual(["one", "slow"]);
    expect(await second).toEqual([]);
  });

  test("nobody sees a part of the schema", async () => {
    await during(async (admin) => {
      const { rows } = await admin.query(
        "SELECT to_regclass('one') AS one, to_regclass('migrations') AS table",
      );
      expect(rows).toEqual([{ one: null, table: null }]);
    });
  });

  test("a hub that has waited for its limit is refused in words, and the first goes on", async () => {
    const added = await during(async () => {
      await expect(migrate(pool(), [one, slow], 50)).rejects.toThrow(
        "being migrated by another hub, backed up or restored; waited 0.05 s: start again when that is done",
      );
    });
    expect(added).toEqual(["one", "slow"]);
  });

  test("and dies, its part is undone and the next does it all", async () => {
    const dying = new pg.Pool({ connectionString: database.url, max: 1 });
    dying.on("error", () => {});
    const admin = pool();
    const gate = await admin.connect();
    await gate.query("SELECT pg_advisory_lock(1)");
    const first = migrate(dying, [one, slow]).catch(() => "died");
    const [pid] = await untilWaiting(admin, 1);
    const second = migrate(pool(), [one, slow]);
    await untilWaiting(admin, 2);
    await admin.query("SELECT pg_terminate_backend($1)", [pid]);
    expect(await first).toBe("died");
    await gate.query("SELECT pg_advisory_unlock(1)");
    gate.release();
    expect(await second).toEqual(["one", "slow"]);
    await dying.end();
  });

  /** Process ids of the sessions that wait for an advisory lock, once there are so many. */
  async function untilWaiting(admin: pg.Pool, count: number): Promise<number[]> {
    for (;;) {
      const { rows } = await admin.query<{ pid: number }>(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
      );
      if (rows.length >= count) return rows.map(({ pid }) => pid);
      await sleep(10);
    }
  }
});

test("a migration that was changed after it was applied is refused", async () => {
  const db = pool();
  await migrate(db, [one]);
  await expect(migrate(db, [{ ...one, sql: `${one.sql} ` }])).rejects.toThrow(
    "The migration one was changed after it was applied: start the program that applied it",
  );
});

test("a database that a newer program has changed is refused", async () => {
  const db = pool();
  await migrate(db, [one, two]);
  await expect(migrate(db, [one])).rejects.toThrow(
    "The database has the migration two, which this program does not know: start a newer program, or restore",
  );
});

describe("hubs on one outside database", () => {
  let dataDirs: string[];
  beforeEach(() => {
    dataDirs = [];
  });
  afterEach(() => {
    for (const dir of dataDirs) rmSync(dir, { recursive: true, force: true });
  });

  function start(): Promise<Hub> {
    const dataDir = mkdtempSync(join(tmpdir(), "gfe-migrate-"));
    dataDirs.push(dataDir);
    const result = parseConfig({
      ...{ PORT: "0", GFE_DATA_DIR: dataDir, DATABASE_URL: database.url },
      ...{ GFE_LOG_LEVEL: "silent", GFE_DRAIN_MS: "0", GFE_CANARY_INTERVAL: "0" },
    });
    if (!result.ok) throw new Error(JSON.stringify(result.problems));
    return startHub(result.config);
  }

  test("that start at once both serve, on one schema", async () => {
    const hubs = await Promise.all([start(), start()]);
    try {
      for (const { url } of hubs) expect((await fetch(`${url}/readyz`)).status).toBe(200);
      const { rows } = await pool().query("SELECT name FROM migrations ORDER BY applied_at");
      expect(rows.map(({ name }) => name)).toEqual(ownMigrations.map(({ name }) => name));
    } finally {
      await Promise.all(hubs.map((hub) => hub.stop()));
    }
  });

  test("refuse to start on a database of a newer program, by name, and leave it alone", async () => {
    const db = pool();
    await migrate(db, [...ownMigrations, { name: "hub/9999-later", sql: "CREATE TABLE later (n int)" }]);
    await expect(start()).rejects.toThrow("hub/9999-later, which this program does not know");
    expect((await db.query("SELECT FROM later")).rows).toEqual([]);
  });

  test("refuse to start where a migration fails, and the database is as it was", async () => {
    const db = pool();
    await db.query("CREATE TABLE jobs (somebody_elses int)");
    await expect(start()).rejects.toThrow("0011-jobs.sql failed, and the database is as it was");
    const { rows } = await db.query(
      "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    );
    expect(rows).toEqual([{ relname: "jobs" }]);
  });
});

test("the hub's own migrations fit an empty database", async () => {
  const added = await migrate(pool());
  expect(added.length).toBeGreaterThan(3);
  expect(added.findLastIndex((name) => !name.startsWith("hub/"))).toBeLessThan(
    added.findIndex((name) => name.startsWith("hub/")),
  );
});
