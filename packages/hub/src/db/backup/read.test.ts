import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase } from "../../testing/database.ts";
import { migrate } from "../migrate.ts";
import { backup } from "./backup.ts";
import { inspectBackup } from "./restore.ts";

const MIGRATIONS = [{ name: "one", sql: "CREATE TABLE apple (n int, words text)" }];
let dir: string;
let path: string;
let whole: Buffer;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "gfe-backup-"));
  path = join(dir, "backup");
  const database = await createTestDatabase();
  const pool = new pg.Pool({ connectionString: database.url });
  try {
    await migrate(pool, MIGRATIONS);
    await pool.query("INSERT INTO apple SELECT n, 'row ' || n FROM generate_series(1, 50) n");
    const now = new Date("2026-01-02");
    await backup({ databaseUrl: database.url, dataDir: dir, path, hubVersion: "1.2.3", now });
  } finally {
    await pool.end();
    await database.drop();
  }
  whole = readFileSync(path);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("a file that is not a whole backup is refused before anything is written", () => {
  const inspect = (content: Buffer | string) => {
    writeFileSync(path, content);
    return inspectBackup(path, MIGRATIONS);
  };
  const NO_BACKUP = /backup (is|is cut short, or) not a backup of GPU For Everyone$/;

  test.each<[string, Buffer | string]>([
    ["nothing", ""],
    ["text", "hello, I am a letter\n"],
    ["zeros", Buffer.alloc(100_000)],
    ["another gzip", gzipSync("hello\n")],
    ["a long line", gzipSync("a".repeat(1_000_000))],
  ])("foreign: %s", async (_name, content) => {
    await expect(inspect(content)).rejects.toThrow(NO_BACKUP);
  });

  test("cut short, wherever", async () => {
    for (let length = 0; length < whole.length; length += 1 + Math.floor(whole.length / 41))
      await expect(inspect(whole.subarray(0, length))).rejects.toThrow(`${path} is cut short`);
    await expect(inspect(whole.subarray(0, -1))).rejects.toThrow("is cut short");
  });

  test("cut short before it was pressed, or with something behind its end", async () => {
    const text = gunzipSync(whole);
    for (const part of [0.2, 0.5, 0.9])
      await expect(inspect(gzipSync(text.subarray(0, text.length * part)))).rejects.toThrow("is cut short");
    await expect(inspect(gzipSync(Buffer.concat([text, Buffer.from("x")])))).rejects.toThrow(
      "follows its end",
    );
    await expect(inspect(Buffer.concat([whole, whole]))).rejects.toThrow("follows its end");
  });

  test("a bit that turned makes no other content", async () => {
    const { end } = await inspect(whole); // with the SHA-256 of all before it
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(7), async (at, bit) => {
        const turned = Buffer.from(whole);
        turned[at]! ^= 1 << bit;
        const read = await inspect(turned).catch((error: Error) => error.message);
        // A few bits mean nothing: of the time in gzip's head, and of what fills its last byte.
        if (typeof read === "string") expect(read).toContain(path);
        else expect(read.end).toEqual(end);
      }),
      { numRuns: 60 },
    );
  });

  test("changed by hand, its SHA-256 tells", async () => {
    const changed = gunzipSync(whole).toString("latin1").replace("row 7", "row 8");
    await expect(inspect(gzipSync(Buffer.from(changed, "latin1")))).rejects.toThrow("its SHA-256 is another");
  });

  test.each([
    ["gfe-backup 1", "gfe-backup 2", "has the format 2, and this program reads format 1"],
    ['"record":"manifest"', '"record":"mainfest"', "a record cannot be read"],
    ['"table":"apple"', '"table":"grape"', "rows of grape are where they do not belong"],
    ['"name":"one"', '"name":"zzz"', "of a newer program (1.2.3): this one does not know its migration zzz"],
  ])("with %s as %s: %s", async (from, to, words) => {
    const changed = gunzipSync(whole).toString("latin1").replace(from, to);
    await expect(inspect(gzipSync(Buffer.from(changed, "latin1")))).rejects.toThrow(words);
  });

  test("with a migration that was changed since", async () => {
    writeFileSync(path, whole);
    const changed = MIGRATIONS.map((each) => ({ ...each, sql: `${each.sql} ` }));
    await expect(inspectBackup(path, changed)).rejects.toThrow("The migration one was changed");
  });

  test("that is not there", async () => {
    await expect(inspectBackup(join(dir, "none"))).rejects.toThrow("ENOENT");
  });
});
