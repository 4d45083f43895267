import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createPool, migrate } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import { createLedger } from "@gfe/ledger";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { gfe } from "./testing/gfe.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const KEPT = { "hub-key.json": '{"k":1}', secret: "s3cret", "hub-id": "hub_1" };

/** Of an outside database with sound books, and of a data directory with a hub's files. */
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pool: pg.Pool;
let home: string;
let dataDir: string;
let env: Record<string, string>;
/** One backup of it, made once. */
let file: string;
/** Of one test. */
let dir: string;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = createPool(database.url, () => {});
  await migrate(pool);
  const ledger = createLedger({ pool });
  const users = Array.from({ length: 20 }, (_, n) => ({ id: `user:${n}`, kind: "consumer" as const }));
  await ledger.openAccounts([{ id: "hub:signup", kind: "system" }, ...users]);
  for (const { id } of users)
    await ledger.transfer({ id: `signup:${id}`, from: "hub:signup", to: id, amount: 5n, code: "signup" });
  home = mkdtempSync(join(tmpdir(), "gfe-cli-backup-"));
  chmodSync(home, 0o711); // PostgreSQL runs as another user where we are root
  dataDir = join(home, "data");
  mkdirSync(dataDir);
  for (const [name, content] of Object.entries(KEPT)) writeFileSync(join(dataDir, name), content);
  env = { DATABASE_URL: database.url, GFE_DATA_DIR: dataDir };
  file = join(home, "whole.gz");
  const { code, stderr } = await gfe(["backup", "--to", file], env);
  expect([code, stderr]).toEqual([0, ""]);
});
afterAll(async () => {
  await pool?.end();
  await database?.drop();
  if (home) rmSync(home, { recursive: true, force: true });
});
beforeEach(() => {
  dir = mkdtempSync(join(home, "test-"));
  chmodSync(dir, 0o711);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const expectKept = (place: string) => {
  for (const [name, content] of Object.entries(KEPT)) {
    expect(readFileSync(join(place, name), "utf8")).toBe(content);
    expect(statSync(join(place, name)).mode & 0o777).toBe(0o600);
  }
};

describe("backup", () => {
  test("into a directory is named by its time; what it says is true, as words and as JSON", async () => {
    const asJson = await gfe(["backup", "--to", dir, "--json"], env);
    expect([asJson.code, asJson.stderr]).toEqual([0, ""]);
    const report = JSON.parse(asJson.stdout);
    expect(report).toMatchObject({
      hub_version: "0.1.0",
      files: Object.keys(KEPT),
      left_out: [],
      warnings: [],
    });
    expect(report.tables).toContainEqual({ name: "ledger_transfers", rows: 20, bytes: expect.any(Number) });
    expect(readdirSync(dir)).toEqual([basename(report.path)]);
    expect(basename(report.path)).toMatch(/^gfe-\d{8}T\d{6}Z\.backup\.gz$/);
    expect(statSync(report.path)).toMatchObject({ size: report.bytes, mode: 0o100600 });

    const asWords = await gfe(["backup", "--to", join(dir, "named")], env);
    expect(asWords.stdout).toMatch(/^ {2}ledger_transfers {2}20 rows, \d.*B$/m);
    expect(asWords.stdout).toContain("hub-key.json, secret, hub-id");
    expect(asWords.stdout).toContain("It holds secrets");
  });

  test("does not write over a file", async () => {
    const path = join(dir, "mine");
    writeFileSync(path, "mine");
    const { code, stderr } = await gfe(["backup", "--to", path], env);
    expect([code, stderr]).toEqual([1, `gfe: ${path} exists already: name another file with --to\n`]);
    expect(readFileSync(path, "utf8")).toBe("mine");
  });

  test("without the hub's files, and with a secret in the environment, warns", async () => {
    const { code, stderr } = await gfe(["backup", "--to", dir], {
      ...{ DATABASE_URL: database.url, GFE_DATA_DIR: dir },
      GFE_SECRET: "s".repeat(32),
    });
    expect(code).toBe(0);
    expect(stderr).toContain(`hub-key.json not in ${dir}`);
    expect(stderr).toContain("GFE_SECRET is in the environment and not in the backup");
  });

  test("of a data directory without a database makes none", async () => {
    const { code, stderr } = await gfe(["backup", "--to", dir], { GFE_DATA_DIR: join(dir, "none") });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^gfe: there is no database in .*none: set GFE_DATA_DIR or DATABASE_URL/);
    expect(readdirSync(dir)).toEqual([]);
  });

  test("where the disk is full says so, and leaves nothing", async () => {
    await pool.query(
      "INSERT INTO job_results SELECT n::text, string_agg(md5(random()::text), ''), NULL, now() FROM generate_series(1, 60) n, generate_series(1, 5000) GROUP BY n",
    );
    try {
      const limited = [
        "-c",
        `ulimit -f 500; exec "$@"`,
        "-",
        process.execPath,
        MAIN,
        "backup",
        "--to",
        join(dir, "big"),
      ];
      const child = spawn("bash", limited, {
        env: { PATH: process.env.PATH, HOME: "/nonexistent", ...env },
        stdio: ["ignore", "ignore", "pipe"],
      });
      let said = "";
      child.stderr.on("data", (data) => {
        said += data;
      });
      const [code] = await once(child, "close");
      expect([code, said]).toEqual([1, expect.stringMatching(/^gfe: .*(EFBIG|ENOSPC)/)]);
      expect(readdirSync(dir)).toEqual([]);
    } finally {
      await pool.query("TRUNCATE job_results");
    }
  });

  test.each(["SIGKILL", "SIGINT"] as const)(
    "ended by %s in the midst has put nothing at its name",
    async (signal) => {
      const path = join(dir, "half");
      const gate = await pool.connect();
      try {
        await gate.query("BEGIN");
        await gate.query("LOCK TABLE ledger_transfers IN ACCESS EXCLUSIVE MODE");
        const child = spawn(process.execPath, [MAIN, "backup", "--to", path], {
          env: { PATH: process.env.PATH, HOME: "/nonexistent", ...env },
          stdio: "ignore",
        });
        const ended = once(child, "exit");
        await untilBlocked();
        expect(readdirSync(dir)).toEqual([expect.stringMatching(/^half\.part-\w+$/)]);
        child.kill(signal);
        if (signal === "SIGINT") await gate.query("ROLLBACK"); // it looks up when the table comes
        await ended;
        expect(existsSync(path)).toBe(false);
        expect(readdirSync(dir)).toHaveLength(signal === "SIGKILL" ? 1 : 0);
      } finally {
        await gate.query("ROLLBACK");
        gate.release();
      }
      expect((await gfe(["backup", "--to", path], env)).code).toBe(0);
    },
  );

  /** The backup waits for the lock on its table. */
  async function untilBlocked(): Promise<void> {
    const waiting =
      "SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'ledger_transfers' AND NOT l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while ((await pool.query(waiting)).rowCount === 0) await sleep(20);
  }
});

describe("restore", () => {
  test("--verify tries it in a scratch database, and touches nothing that is named", async () => {
    const { code, stdout, stderr } = await gfe(["restore", file, "--verify"], {
      ...{ DATABASE_URL: database.url, GFE_DATA_DIR: dir, TMPDIR: tmpdir() },
    });
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^✓ every table has the rows of the backup \(\d+ in \d+ tables\)$/m);
    expect(stdout).toContain("✓ the sum of all balances is zero");
    expect(stdout).toContain("It can be restored. Nothing was changed.");
    expect(readdirSync(dir)).toEqual([]);
  });

  test("into a data directory makes one that a hub can start on, once", async () => {
    const place = join(dir, "new", "data");
    const restored = await gfe(["restore", file, "--into", place, "--json"], env);
    expect([restored.code, restored.stderr]).toEqual([0, ""]);
    expect(JSON.parse(restored.stdout)).toMatchObject({ ok: true, target: place, files: Object.keys(KEPT) });
    expectKept(place);
    expect(readdirSync(place)).not.toContain("restoring");
    expect((await gfe(["ledger", "verify"], { GFE_DATA_DIR: place })).code).toBe(0);

    const again = await gfe(["restore", file], { GFE_DATA_DIR: place });
    expect([again.code, again.stdout]).toEqual([1, ""]);
    expect(again.stderr).toMatch(/is not empty .*: restore into another directory; nothing was changed/);
    expectKept(place);
  });

  test("into an outside database, with the files in the data directory, once", async () => {
    const other = await createTestDatabase();
    try {
      const target = { DATABASE_URL: other.url, GFE_DATA_DIR: dir };
      const restored = await gfe(["restore", file], target);
      expect([restored.code, restored.stderr]).toEqual([0, ""]);
      expect(restored.stdout).toMatch(/^Restored into the database test_\w+.*Start the hub there/m);
      expectKept(dir);
      expect((await gfe(["ledger", "verify"], target)).code).toBe(0);

      const again = await gfe(["restore", file], target);
      expect([again.code, again.stderr]).toEqual([
        1,
        expect.stringMatching(/^gfe: The database .* is not empty/),
      ]);
    } finally {
      await other.drop();
    }
  });

  test("beside files of another hub is refused, and neither they nor the database are touched", async () => {
    const other = await createTestDatabase();
    try {
      writeFileSync(join(dir, "secret"), "another");
      const { code, stderr } = await gfe(["restore", file, "--into", other.url], { GFE_DATA_DIR: dir });
      expect([code, stderr]).toEqual([1, expect.stringMatching(/secret is another than the backup's/)]);
      expect(readdirSync(dir)).toEqual(["secret"]);
      const look = createPool(other.url, () => {});
      expect((await look.query("SELECT to_regclass('migrations') AS there")).rows).toEqual([{ there: null }]);
      await look.end();
    } finally {
      await other.drop();
    }
  });

  test("leaves no files where the database is refused", async () => {
    const { code } = await gfe(["restore", file], { DATABASE_URL: database.url, GFE_DATA_DIR: dir });
    expect(code).toBe(1);
    expect(readdirSync(dir)).toEqual([]);
  });

  test("of a file that is cut short makes no data directory", async () => {
    const path = join(dir, "bad");
    writeFileSync(path, readFileSync(file).subarray(0, -9));
    const { code, stdout, stderr } = await gfe(["restore", path, "--into", join(dir, "new")]);
    expect([code, stdout, stderr]).toEqual([
      1,
      "",
      `gfe: ${path} is cut short\n     because: unexpected end of file\n`,
    ]);
    expect(readdirSync(dir)).toEqual(["bad"]);
  });

  test("of books that do not balance says so, with exit status 1", async () => {
    const other = await createTestDatabase();
    await pool.query("UPDATE ledger_accounts SET posted = posted + 1 WHERE id = 'user:3'");
    try {
      const path = join(dir, "unsound");
      expect((await gfe(["backup", "--to", path], env)).code).toBe(0);
      const { code, stdout } = await gfe(["restore", path, "--into", other.url, "--json"], {
        GFE_DATA_DIR: dir,
      });
      expect([code, JSON.parse(stdout).ok]).toEqual([1, false]);
    } finally {
      await pool.query("UPDATE ledger_accounts SET posted = posted - 1 WHERE id = 'user:3'");
      await other.drop();
    }
  });
});
