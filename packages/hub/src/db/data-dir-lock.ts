/**
 * One hub a data directory. The lock file names a process and when it started, so that a lock whose owner was killed,
 * or whose pid belongs to something else by now, is taken over.
 */
import { existsSync, linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const TAKEOVER_WAIT_MS = 10;
/** Of /proc/<pid>/stat, counted from its third field. */
const STARTED = 19;
/** In a data directory while a backup is being restored into it. */
export const RESTORING = "restoring";

/**
 * Returns the function that gives the lock back. Throws when another hub is running there, and where a restore was
 * broken off: a hub would make a new database beside what is there.
 */
export function lockDataDir(dataDir: string): () => void {
  const path = join(dataDir, "hub.lock");
  const mine = `${process.pid} ${startedAt(process.pid) ?? ""}\n`;
  const draft = `${path}.${process.pid}`;
  try {
    writeFileSync(draft, mine, { mode: 0o600 });
    for (;;) {
      if (linked(draft, path)) break;
      const held = read(path);
      if (held === null) continue;
      if (isRunning(held)) {
        throw new Error(
          `Another hub or command (process ${held.split(" ")[0]}) uses the data directory ${dataDir}: stop it, or set GFE_DATA_DIR to another one`,
        );
      }
      if (takenOver(path, draft, held)) break;
    }
  } finally {
    rmSync(draft, { force: true });
  }
  const unlock = () => {
    if (read(path) === mine) rmSync(path, { force: true });
  };
  if (existsSync(join(dataDir, RESTORING))) {
    unlock();
    throw new Error(`A restore into ${dataDir} was not finished: empty the directory and restore again`);
  }
  return unlock;
}

/**
 * Puts the draft in the place of a stale lock. Of several that saw it, the one that holds the claim may; without it,
 * the second would throw out the first, which is not stale any more.
 */
function takenOver(path: string, draft: string, stale: string): boolean {
  const claim = `${path}.takeover`;
  if (!linked(draft, claim)) {
    const claimed = read(claim);
    if (claimed !== null && !isRunning(claimed)) rmSync(claim, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, TAKEOVER_WAIT_MS);
    return false;
  }
  try {
    if (read(path) !== stale) return false;
    renameSync(draft, path);
    return true;
  } finally {
    rmSync(claim, { force: true });
  }
}

/** Atomic: false where the name is taken. */
function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** Whether the process that a lock names still is. */
function isRunning(lock: string): boolean {
  const [first = "", started = ""] = lock.trim().split(" ");
  const pid = Number(first);
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const now = statOf(pid);
  if (now?.[0] === "Z") return false; // ended; nobody asked how, as in a container without an init process
  return now === null || started === "" || now[STARTED] === started;
}

/** Clock ticks from boot to the process's start, where the system tells; null elsewhere. */
const startedAt = (pid: number): string | null => statOf(pid)?.[STARTED] ?? null;

/** Its fields from the third on, its state, where the system tells; null elsewhere. */
function statOf(pid: number): string[] | null {
  const stat = read(`/proc/${pid}/stat`);
  return stat === null ? null : stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}
