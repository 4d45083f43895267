import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "./embedded-postgres.ts";
import { postgresBinaries } from "./postgres-binaries.ts";

const AS_ROOT = process.getuid?.() === 0;
let dataDir: string;
let running: EmbeddedPostgres[];
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "gfe-pg-test-"));
  chmodSync(dataDir, 0o711);
  running = [];
});
afterEach(async () => {
  await Promise.all(running.map((postgres) => postgres.stop()));
  rmSync(dataDir, { recursive: true, force: true });
});

async function start(dir = dataDir, log: string[] = []): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir: dir, log: (message) => log.push(message) });
  running.push(postgres);
  return postgres;
}

async function sql<Row extends pg.QueryResultRow>({ url }: { url: string }, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.[0] !== "Z";
  } catch {
    return false;
  }
};

/** A hub that is nothing but its database: makes a row and says so. */
async function hubInItsOwnProcess() {
  const module = new URL("./embedded-postgres.ts", import.meta.url).href;
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `const { startEmbeddedPostgres } = await import(${JSON.stringify(module)});
       const { default: pg } = await import("pg");
       const postgres = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, log: () => {} });
       const client = new pg.Client({ connectionString: postgres.url });
       await client.connect();
       await client.query("CREATE TABLE kept AS SELECT 7 AS n");
       console.log(postgres.pid());`,
    ],
    { cwd: import.meta.dirname, stdio: ["ignore", "pipe", "inherit"] },
  );
  const [data] = await once(child.stdout, "data");
  return { child, postmaster: Number(String(data)) };
}

test("rows survive a stop and a start, and nothing is left running", async () => {
  const first = await start();
  await sql(first, "CREATE TABLE kept AS SELECT 7 AS n");
  const pid = first.pid()!;
  await first.stop();
  expect(isAlive(pid)).toBe(false);
  expect(await sql(await start(), "SELECT n FROM kept")).toEqual([{ n: 7 }]);
});

test("every commit waits for the disk", async () => {
  const postgres = await start();
  expect(await sql(postgres, "SHOW fsync")).toEqual([{ fsync: "on" }]);
  expect(await sql(postgres, "SHOW synchronous_commit")).toEqual([{ synchronous_commit: "on" }]);
});

describe("nobody else on the machine gets in", () => {
  test("it listens on no network address, and its socket is in a directory of its own", async () => {
    const postgres = await start();
    expect(await sql(postgres, "SHOW listen_addresses")).toEqual([{ listen_addresses: "" }]);
    const sockets = new URL(postgres.url).searchParams.get("host")!;
    expect(statSync(sockets).mode & 0o777).toBe(0o700);
    expect(statSync(join(dataDir, "postgres", "server.log")).mode & 0o077).toBe(0);
  });

  test.runIf(AS_ROOT)("another user cannot even reach the socket", async () => {
    const { url } = await start();
    const sockets = new URL(url).searchParams.get("host")!;
    const said = execFileSync("sh", ["-c", `ls ${sockets} 2>&1 || true`], { uid: 2, gid: 2, cwd: "/" });
    expect(String(said)).toContain("Permission denied");
  });
});

describe("when its hub is killed", () => {
  test("the next one finds the orphan, stops it and has every row", async () => {
    const { child, postmaster } = await hubInItsOwnProcess();
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(isAlive(postmaster)).toBe(true);
    const log: string[] = [];
    const next = await start(dataDir, log);
    expect(log).toContain("stopping the database that an earlier hub left running");
    expect(isAlive(postmaster)).toBe(false);
    expect(next.pid()).not.toBe(postmaster);
    expect(await sql(next, "SELECT n FROM kept")).toEqual([{ n: 7 }]);
  });

  test("together with its database, every row is there as well", async () => {
    const { child, postmaster } = await hubInItsOwnProcess();
    child.kill("SIGKILL");
    process.kill(postmaster, "SIGKILL");
    await once(child, "exit");
    expect(await sql(await start(), "SELECT n FROM kept")).toEqual([{ n: 7 }]);
  });

  test("a pid file whose number belongs to another process by now harms nobody", async () => {
    await (await start()).stop();
    const bystander = spawn("sleep", ["60"]);
    try {
      execFileSync("sh", ["-c", `echo ${bystander.pid} > '${dataDir}/postgres/postmaster.pid'`]);
      expect(await sql(await start(), "SELECT 1 AS n")).toEqual([{ n: 1 }]);
      expect(bystander.exitCode).toBe(null);
      expect(bystander.signalCode).toBe(null);
    } finally {
      bystander.kill();
    }
  });
});

test("when it is killed itself, it is started again with every row", async () => {
  const postgres = await start();
  await sql(postgres, "CREATE TABLE kept AS SELECT 7 AS n");
  const before = postgres.pid()!;
  process.kill(before, "SIGKILL");
  const rows = await until(() => sql(postgres, "SELECT n FROM kept"));
  expect(rows).toEqual([{ n: 7 }]);
  expect(postgres.pid()).not.toBe(before);
});

test("a data directory whose path is too long for a socket works all the same", async () => {
  const deep = join(dataDir, "d".repeat(60), "e".repeat(60));
  mkdirSync(deep, { recursive: true, mode: 0o711 });
  const postgres = await start(deep);
  expect(await sql(postgres, "SELECT 1 AS n")).toEqual([{ n: 1 }]);
  const sockets = new URL(postgres.url).searchParams.get("host")!;
  expect(statSync(sockets).mode & 0o777).toBe(0o700);
  await postgres.stop();
  expect(existsSync(sockets)).toBe(false);
});

test.runIf(AS_ROOT)("as root, a directory that its user cannot enter is refused with advice", async () => {
  const closed = join(dataDir, "closed");
  mkdirSync(closed, { mode: 0o700 });
  await expect(start(join(closed, "data"))).rejects.toThrow(
    new RegExp(`cannot enter ${closed}: choose another GFE_DATA_DIR`),
  );
});

test("programs that its user cannot reach are copied to where it can, their links mended, once", () => {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
  const closed = join(dataDir, "closed");
  mkdirSync(closed, { mode: 0o700 });
  const found = join(closed, "package");
  cpSync(resolve(dirname(require.resolve(name)), ".."), found, { recursive: true, verbatimSymlinks: true });
  if (process.platform === "linux") rmSync(join(found, "native", "lib", "libpq.so.5")); // npm --ignore-scripts
  const { initdb } = postgresBinaries(dataDir, true, found);
  expect(initdb.startsWith(join(dataDir, "postgres-program"))).toBe(true);
  const user = AS_ROOT ? { uid: 2, gid: 2 } : {};
  expect(String(execFileSync(initdb, ["--version"], { ...user, cwd: "/" }))).toContain("PostgreSQL");
  const { ino } = statSync(initdb);
  expect(statSync(postgresBinaries(dataDir, true, found).initdb).ino).toBe(ino);
  expect(postgresBinaries(dataDir, false, found).initdb.startsWith(found)).toBe(true);
});

test("a strict umask changes nothing of who may enter", async () => {
  const before = process.umask(0o077);
  try {
    const postgres = await start(join(dataDir, "new", "data"));
    expect(await sql(postgres, "SELECT 1 AS n")).toEqual([{ n: 1 }]);
  } finally {
    process.umask(before);
  }
});

test("when it cannot start, its own last words are in the error", async () => {
  await (await start()).stop();
  rmSync(join(dataDir, "postgres", "global"), { recursive: true });
  await expect(start()).rejects.toThrow(/PostgreSQL did not start: .*global.*server\.log/s);
});

async function until<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (tries > 200) throw error;
      await sleep(50);
    }
  }
}
