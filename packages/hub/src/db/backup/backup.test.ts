import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Migration } from "@gfe/ledger";
import fc from "fast-check";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../../testing/database.ts";
import { migrate, ownMigrations, SCHEMA_LOCK } from "../migrate.ts";
import { backup } from "./backup.ts";
import { inOrder } from "./catalogue.ts";
import { PIECE_BYTES_MAX } from "./format.ts";
import { inspectBackup, restoreDatabase } from "./restore.ts";

let dir: string;
let path: string;
let databases: Awaited<ReturnType<typeof createTestDatabase>>[];
let pools: pg.Pool[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gfe-backup-"));
  path = join(dir, "backup");
  databases = [];
  pools = [];
});
afterEach(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
  await Promise.all(databases.map((database) => database.drop()));
  rmSync(dir, { recursive: true, force: true });
});

async function newDatabase(): Promise<{ url: string; pool: pg.Pool }> {
  const database = await createTestDatabase();
  databases.push(database);
  const pool = new pg.Pool({ connectionString: database.url, max: 4 });
  pools.push(pool);
  return { url: database.url, pool };
}

const take = (databaseUrl: string, more: Partial<Parameters<typeof backup>[0]> = {}) =>
  backup({ databaseUrl, dataDir: dir, path, hubVersion: "1.2.3", now: new Date("2026-01-02"), ...more });

/** Everything in a table, as text, in the order in which it lies. */
async function contentOf(pool: pg.Pool, table: string): Promise<string[]> {
  const { rows } = await pool.query<{ row: string }>(`SELECT t::text AS row FROM "${table}" t ORDER BY ctid`);
  return rows.map(({ row }) => row);
}

/** A schema with everything that could get in a restore's way: only what comes later in the alphabet is referred to. */
const AWKWARD: Migration[] = [
  {
    name: "one",
    sql: `CREATE TABLE "Zebra" (id text PRIMARY KEY, parent text REFERENCES "Zebra" (id));
      INSERT INTO "Zebra" VALUES ('seeded', NULL);
      CREATE TABLE apple (
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        zebra text NOT NULL REFERENCES "Zebra" (id),
        words text, list text[], json jsonb, bytes bytea, at timestamptz, amount bigint, share double precision, yes boolean,
        "A column" text, twice bigint GENERATED ALWAYS AS (amount / 2) STORED);
      CREATE TABLE log (n serial, what text);
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'append-only'; END $$;
      CREATE TRIGGER stay BEFORE UPDATE OR DELETE ON apple FOR EACH STATEMENT EXECUTE FUNCTION refuse();
      CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES ('new'); RETURN NEW; END $$;
      CREATE TRIGGER counted AFTER INSERT ON apple FOR EACH ROW EXECUTE FUNCTION count_it();`,
  },
  { name: "two", sql: "ALTER TABLE apple DROP COLUMN share" },
];
const words = fc.oneof(
  fc.constantFrom("", "\\N", "\\.", "a\tb", "two\nlines", "\r\n", "back\\slash", "\u2028"),
  fc.string({ unit: "binary" }).map((text) => text.replaceAll("\0", "")),
);
const apple = fc.record({
  words: fc.option(words),
  list: fc.option(fc.array(fc.option(words), { maxLength: 4 })),
  json: fc.option(fc.dictionary(words, words, { maxKeys: 3 }).map((object) => JSON.stringify(object))),
  bytes: fc.option(fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes))),
  at: fc.option(fc.date({ min: new Date("0100-01-01"), max: new Date("9000-01-01"), noInvalidDate: true })),
  amount: fc.option(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)),
  yes: fc.option(fc.boolean()),
});

test("whatever is in a database comes back the same, by its rows, sequences, keys and triggers", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(apple, { maxLength: 30 }), async (apples) => {
      rmSync(path, { force: true });
      const { url, pool } = await newDatabase();
      await migrate(pool, AWKWARD);
      await pool.query(`INSERT INTO "Zebra" VALUES ('b', 'c'), ('c', 'seeded')`);
      for (const each of apples) {
        const names = Object.keys(each);
        await pool.query(
          `INSERT INTO apple (zebra, "A column", ${names}) VALUES ('b', 'x', ${names.map((_, i) => `$${i + 1}`)})`,
          Object.values(each),
        );
      }
      const report = await take(url);
      expect(report.tables.find(({ name }) => name === "apple")!.rows).toBe(apples.length);

      const restored = await newDatabase();
      await restoreDatabase(await inspectBackup(path, AWKWARD), { databaseUrl: restored.url });
      for (const table of ["Zebra", "apple", "log"])
        expect(await contentOf(restored.pool, table)).toEqual(await contentOf(pool, table));
      const insert = `INSERT INTO apple (zebra) VALUES ('b') RETURNING n`;
      expect((await restored.pool.query(insert)).rows).toEqual((await pool.query(insert)).rows);
      expect(await contentOf(restored.pool, "log")).toEqual(await contentOf(pool, "log"));
      await expect(restored.pool.query("DELETE FROM apple")).rejects.toThrow("append-only");
      await expect(restored.pool.query("INSERT INTO apple (zebra) VALUES ('none')")).rejects.toThrow(
        "foreign key",
      );
    }),
    { numRuns: 4 },
  );
}, 60_000);

describe("with some rows of the hub's own schema", () => {
  let url: string;
  let pool: pg.Pool;
  let source: Awaited<ReturnType<typeof createTestDatabase>>;
  beforeAll(async () => {
    source = await createTestDatabase();
    url = source.url;
    pool = new pg.Pool({ connectionString: url, max: 4 });
    await migrate(pool);
    await pool.query(
      "INSERT INTO ledger_accounts (id, kind) SELECT 'user:' || n, 'system' FROM generate_series(1, 9000) n",
    );
  });
  afterAll(async () => {
    await pool.end();
    await source.drop();
  });
  beforeEach(() => {
    for (const [name, text] of [
      ["hub-key.json", "{}"],
      ["secret", "s3cret"],
      ["hub-id", "hub_1"],
    ] as const)
      writeFileSync(join(dir, name), text);
  });

  test("the file is its owner's alone, says what is in it, and nothing else is left beside it", async () => {
    const report = await take(url);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(report).toMatchObject({
      path,
      bytes: statSync(path).size,
      created_at: "2026-01-02T00:00:00.000Z",
      hub_version: "1.2.3",
      migrations: ownMigrations.length,
      files: ["hub-key.json", "secret", "hub-id"],
      left_out: [],
    });
    expect(readdirSync(dir).sort()).toEqual(["backup", "hub-id", "hub-key.json", "secret"]);
    const { files, manifest } = await inspectBackup(path);
    expect(files.get("secret")?.toString()).toBe("s3cret");
    expect(manifest.migrations.map(({ name }) => name)).toEqual(ownMigrations.map(({ name }) => name));
  });

  test("tables of another schema are left out, and named", async () => {
    await pool.query("CREATE SCHEMA library; CREATE TABLE library.things (n int)");
    expect((await take(url)).left_out).toEqual(["library"]);
    await pool.query("DROP SCHEMA library CASCADE");
  });

  test("rows that are longer than a piece come back whole, and many of them leak nothing", async () => {
    const warned: Error[] = [];
    const listener = (warning: Error) => warned.push(warning);
    process.on("warning", listener);
    await pool.query(
      `INSERT INTO job_results SELECT 'j' || n, repeat('ä' || chr(10), ${Math.ceil(PIECE_BYTES_MAX / 3)}), NULL, now() FROM generate_series(1, 15) n`,
    );
    const digest =
      "SELECT md5(string_agg(md5(prompt), '' ORDER BY job_id)) AS md5, count(*) FROM job_results";
    await take(url);
    const restored = await newDatabase();
    await restoreDatabase(await inspectBackup(path), { databaseUrl: restored.url });
    process.off("warning", listener);
    expect((await restored.pool.query(digest)).rows).toEqual((await pool.query(digest)).rows);
    expect(warned).toEqual([]);
    await pool.query("TRUNCATE job_results");
  });

  test("a backup of an older program is brought to the schema of this one", async () => {
    await take(url);
    const restored = await newDatabase();
    const later = {
      name: "hub/9999-later",
      sql: "CREATE TABLE later AS SELECT count(*)::int AS n FROM ledger_accounts",
    };
    await restoreDatabase(await inspectBackup(path, [...ownMigrations, later]), {
      databaseUrl: restored.url,
    });
    expect((await restored.pool.query("SELECT n FROM later")).rows).toEqual([{ n: 9000 }]);
  });

  test("a database in which anything lies is refused, and left alone", async () => {
    await take(url);
    const inspected = await inspectBackup(path);
    const other = await newDatabase();
    await other.pool.query("CREATE TABLE mine AS SELECT 7 AS n");
    await expect(restoreDatabase(inspected, { databaseUrl: other.url })).rejects.toThrow(
      /^The database test_\w+ is not empty \(mine\): restore into a new one; nothing was changed$/,
    );
    expect((await other.pool.query("SELECT n FROM mine")).rows).toEqual([{ n: 7 }]);
    await expect(restoreDatabase(inspected, { databaseUrl: url })).rejects.toThrow(/ and \d+ more\)/);
    expect((await pool.query("SELECT FROM ledger_accounts")).rowCount).toBe(9000);
  });

  test("a restore that is stopped leaves an empty database, and the next one works", async () => {
    await take(url);
    const inspected = await inspectBackup(path);
    const restored = await newDatabase();
    const stop = new AbortController();
    const stopped = restoreDatabase(inspected, {
      databaseUrl: restored.url,
      signal: stop.signal,
      onProgress: ({ bytes }) => bytes > 0 && stop.abort(),
    });
    await expect(stopped).rejects.toThrow("aborted");
    expect((await restored.pool.query("SELECT to_regclass('migrations') AS there")).rows).toEqual([
      { there: null },
    ]);
    await restoreDatabase(inspected, { databaseUrl: restored.url });
    expect((await restored.pool.query("SELECT FROM ledger_accounts")).rowCount).toBe(9000);
  });

  test("a file that changes after it was inspected is not restored", async () => {
    await take(url);
    const inspected = await inspectBackup(path);
    writeFileSync(path, readFileSync(path).subarray(0, -20));
    const restored = await newDatabase();
    await expect(restoreDatabase(inspected, { databaseUrl: restored.url })).rejects.toThrow("is cut short");
    expect((await restored.pool.query("SELECT to_regclass('migrations') AS there")).rows).toEqual([
      { there: null },
    ]);
  });

  test("a backup that is stopped leaves nothing, and no lock", async () => {
    const stop = new AbortController();
    const stopped = take(url, {
      signal: stop.signal,
      onProgress: ({ done }) => {
        if (!done) stop.abort();
      },
    });
    await expect(stopped).rejects.toThrow("aborted");
    expect(readdirSync(dir)).not.toContainEqual(expect.stringContaining("backup"));
    await pool.query("SELECT pg_advisory_lock($1), pg_advisory_unlock($1)", [SCHEMA_LOCK]);
  });

  test("where it cannot be written, that is told and nothing is left", async () => {
    await expect(take(url, { path: join(dir, "none", "backup") })).rejects.toThrow("ENOENT");
  });

  test("while it runs a hub starts without waiting, but the schema stays as it is", async () => {
    let tried = false;
    await take(url, {
      onProgress: async ({ done }) => {
        if (done || tried) return;
        tried = true;
        expect(await migrate(pool)).toEqual([]);
        await expect(migrate(pool, [...ownMigrations, { name: "x", sql: "SELECT 1" }], 1)).rejects.toThrow(
          "backed up",
        );
      },
    });
    expect(tried).toBe(true);
  });
});

test("what is committed after its snapshot is not in it", async () => {
  const { url, pool } = await newDatabase();
  await migrate(pool, AWKWARD);
  await pool.query(`INSERT INTO apple (zebra) SELECT 'seeded' FROM generate_series(1, 100)`);
  await take(url, {
    onProgress: async ({ name, done }) => {
      if (name === "Zebra" && done) await pool.query(`INSERT INTO apple (zebra) VALUES ('seeded')`);
    },
  });
  const { end } = await inspectBackup(path, AWKWARD);
  expect(end.tables).toContainEqual(expect.objectContaining({ name: "apple", rows: 100 }));
});

test("a database that is not a hub's is refused, and no file made", async () => {
  const { url } = await newDatabase();
  await expect(take(url)).rejects.toThrow("The database is not a hub's: it has no migrations");
  expect(readdirSync(dir)).toEqual([]);
});

test("tables that refer to each other in a circle are told", () => {
  const tables = ["a", "b", "c"].map((name) => ({ name, columns: ["n"] }));
  const keys = [
    { from: "a", to: "c" },
    { from: "b", to: "a" },
  ];
  expect(inOrder(tables, keys).map(({ name }) => name)).toEqual(["c", "a", "b"]);
  expect(() => inOrder(tables, [...keys, { from: "c", to: "b" }])).toThrow(
    "a, b, c refer to each other in a circle",
  );
});
