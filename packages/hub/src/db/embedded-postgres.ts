/**
 * A real PostgreSQL as this process's child: the binaries come from npm, the data lies under the data directory.
 *
 * It listens on a unix socket in a directory that only its user can enter, and on no network address. PostgreSQL
 * refuses to run as root, so then it runs as an unprivileged user that exists. When it dies by itself it is started
 * again; when this process was killed, the next one finds the orphan by its pid file and stops it first.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { closedDirectory, makeDataDir, postgresBinaries } from "./postgres-binaries.ts";

export interface EmbeddedPostgres {
  /** For a pg.Pool: database `gfe` as its superuser. */
  url: string;
  /** Process id of the server now running. */
  pid(): number | undefined;
  /** Cuts it off without waiting, for a process that ends now. Nothing that was committed is lost. */
  kill(): void;
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  /** Made if missing; must be reachable for the user that PostgreSQL runs as. */
  dataDir: string;
  log: (message: string) => void;
  maxConnections?: number;
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 50;
/** Restarts after a crash without a good minute between them, before they come SLOW_RESTART_MS apart. */
const QUICK_RESTARTS_MAX = 10;
/** Whatever keeps it from running, a full disk for one, may be mended while the hub waits. */
const SLOW_RESTART_MS = 10_000;
/** Restarts before it ever answered. Not one: what a killed server left may take a moment to be gone. */
const START_RETRIES_MAX = 4;
/** sun_path is 108 bytes with its terminator; `.s.PGSQL.5432` and a slash go into it too. */
const SOCKET_DIR_LENGTH_MAX = 107 - 16;

/** Starts the server, making the cluster at first. Throws with words that say what to do. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const user = unprivilegedUser();
  const cluster = join(resolve(options.dataDir), "postgres");
  prepareDirectory(cluster, user);
  const binaries = postgresBinaries(resolve(options.dataDir), user.uid !== undefined);
  await stopOrphan(cluster, options.log);
  if (!existsSync(join(cluster, "PG_VERSION"))) {
    options.log("creating the database (once, a few seconds)");
    createCluster(binaries.initdb, cluster, user);
  }
  const sockets = socketDirectory(cluster, user);
  const url = (database: string) =>
    `postgresql://gfe@localhost/${database}?host=${encodeURIComponent(sockets)}`;

  let child: ChildProcess | null = null;
  let stopping = false;
  let restarts = 0;
  let ready = false;
  let gaveUp = false;

  function launch(): void {
    const logFile = openSync(join(cluster, "server.log"), "a", 0o600);
    const settings = [
      ["listen_addresses", ""],
      ["unix_socket_directories", sockets],
      ["unix_socket_permissions", "0700"],
      ["max_connections", String(options.maxConnections ?? 100)],
      ["fsync", "on"],
      ["synchronous_commit", "on"],
      ["log_statement", "none"],
      ["log_min_error_statement", "panic"], // statements carry data
    ].flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const started = spawn(binaries.postgres, ["-D", cluster, ...settings], {
      ...user,
      cwd: "/",
      env: cleanEnv(),
      stdio: ["ignore", logFile, logFile],
      detached: true, // Ctrl-C in the terminal is for the hub, which then stops the database last
    });
    closeSync(logFile);
    child = started;
    started.once("error", (error) => options.log(`PostgreSQL could not be started: ${error.message}`));
    const startedAt = performance.now();
    started.once("exit", (code, signal) => {
      if (stopping || child !== started) return;
      if (performance.now() - startedAt > 60_000) restarts = 0;
      restarts++;
      const keepsDying = restarts > (ready ? QUICK_RESTARTS_MAX : START_RETRIES_MAX);
      if (keepsDying) options.log(`PostgreSQL keeps dying; see ${join(cluster, "server.log")}`);
      gaveUp = keepsDying && !ready;
      if (gaveUp) return;
      options.log(`PostgreSQL ended (${signal ?? code}); starting it again`);
      const delayMs = keepsDying ? SLOW_RESTART_MS : Math.min(200 * restarts, 2_000);
      setTimeout(() => !stopping && launch(), delayMs);
    });
  }

  launch();
  try {
    await untilReady(url("postgres"), () => gaveUp);
    await createDatabase(url("postgres"));
    ready = true;
  } catch (error) {
    stopping = true;
    (child as ChildProcess | null)?.kill("SIGQUIT");
    throw new Error(`PostgreSQL did not start: ${lastWords(join(cluster, "server.log"))}`, { cause: error });
  }
  return {
    url: url("gfe"),
    pid: () => child?.pid,
    kill() {
      stopping = true;
      child?.kill("SIGQUIT"); // its immediate shutdown: the next start recovers from the log
    },
    async stop() {
      stopping = true;
      if (child && child.exitCode === null && child.signalCode === null) await stopChild(child);
      if (sockets !== cluster) rmSync(sockets, { recursive: true, force: true });
    },
  };
}

/** Empty unless we are root; then the ids of `postgres` or `nobody`. */
function unprivilegedUser(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  for (const name of ["postgres", "nobody"]) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(":");
    if (fields) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new Error(
    "Started as root, and neither the user postgres nor nobody exists to run PostgreSQL: start as another user or set DATABASE_URL",
  );
}

function prepareDirectory(cluster: string, user: { uid?: number; gid?: number }): void {
  makeDataDir(dirname(cluster));
  mkdirSync(cluster, { recursive: true, mode: 0o700 });
  if (user.uid === undefined) return;
  chownSync(cluster, user.uid, user.gid!);
  chmodSync(cluster, 0o700);
  const closed = closedDirectory(dirname(cluster));
  if (closed !== null) {
    throw new Error(
      `PostgreSQL cannot run as root, and its user cannot enter ${closed}: choose another GFE_DATA_DIR (such as /var/lib/gpu-for-everyone), or chmod o+x ${closed}, or do not start as root`,
    );
  }
}

/** Made beside its place and moved there when whole: a hub that is killed meanwhile begins anew. */
function createCluster(initdb: string, cluster: string, user: { uid?: number; gid?: number }): void {
  const [parent, unfinished] = [dirname(cluster), `${basename(cluster)}.making-`];
  for (const name of readdirSync(parent))
    if (name.startsWith(unfinished)) rmSync(join(parent, name), { recursive: true, force: true });
  const making = join(parent, unfinished + randomBytes(4).toString("hex"));
  prepareDirectory(making, user);
  const flags = [
    ...["-D", making, "-U", "gfe", "-E", "UTF8", "--locale=C", "--no-instructions"],
    ...["--auth-local=trust", "--auth-host=reject"],
  ];
  execFileSync(initdb, flags, { ...user, cwd: "/", stdio: "pipe", env: cleanEnv() });
  rmSync(cluster, { recursive: true, force: true }); // of no use: it has no PG_VERSION
  renameSync(making, cluster);
}

function socketDirectory(cluster: string, user: { uid?: number; gid?: number }): string {
  if (cluster.length <= SOCKET_DIR_LENGTH_MAX) return cluster;
  const dir = mkdtempSync(join(tmpdir(), "gfe-pg-")); // 0700
  if (user.uid !== undefined) chownSync(dir, user.uid, user.gid!);
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A server of this cluster that outlived its hub. Its pid file names it; its command line proves it. */
async function stopOrphan(cluster: string, log: (message: string) => void): Promise<void> {
  const pidFile = join(cluster, "postmaster.pid");
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !runsCluster(pid, cluster))
    return rmSync(pidFile, { force: true });
  log("stopping the database that an earlier hub left running");
  process.kill(pid, "SIGINT"); // fast shutdown
  const deadline = performance.now() + STOP_TIMEOUT_MS;
  while (runsCluster(pid, cluster)) {
    if (performance.now() > deadline) process.kill(pid, "SIGQUIT");
    await sleep(POLL_MS);
  }
}

function runsCluster(pid: number, cluster: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(cluster);
  } catch {
    return process.platform !== "linux"; // no /proc: the pid file is all we have
  }
}

/** What it complained of, and where the rest is. */
function lastWords(logFile: string): string {
  const lines = existsSync(logFile) ? readFileSync(logFile, "utf8").trimEnd().split("\n") : [];
  // Our own asking whether it is ready is refused as FATAL too, and tells nothing.
  const fatal =
    lines.findLast((line) => line.includes("FATAL:") && !/the database system is /.test(line)) ??
    lines.at(-1) ??
    "it said nothing";
  return `${fatal.replace(/^.*?FATAL:\s*/, "")} (see ${logFile})`;
}

async function untilReady(url: string, gaveUp: () => boolean): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      return await client.end();
    } catch (error) {
      await client.end().catch(() => {});
      if (gaveUp() || performance.now() > deadline) throw error;
      await sleep(POLL_MS);
    }
  }
}

async function createDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rowCount } = await client.query("SELECT 1 FROM pg_database WHERE datname = 'gfe'");
    if (rowCount === 0) await client.query("CREATE DATABASE gfe");
  } finally {
    await client.end();
  }
}

function stopChild(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => child.kill("SIGQUIT"), STOP_TIMEOUT_MS);
    child.once("exit", () => {
      clearTimeout(force);
      resolve();
    });
    child.kill("SIGINT"); // fast shutdown: ends connections, writes a checkpoint
  });
}

/** PostgreSQL needs a locale it has, and nothing of our environment. */
const cleanEnv = (): NodeJS.ProcessEnv => ({ PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" });
