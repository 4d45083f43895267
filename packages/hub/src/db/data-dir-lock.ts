/**
 * One hub a data directory. The lock file names a process and when it started, so that a lock whose owner was killed,
 * or whose pid belongs to something else by now, is taken over.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Returns the function that gives the lock back. Throws when another hub is running there. */
export function lockDataDir(dataDir: string): () => void {
  const path = join(dataDir, "hub.lock");
  const mine = `${process.pid} ${startedAt(process.pid) ?? ""}\n`;
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, mine, { mode: 0o600 });
  try {
    for (;;) {
      try {
        linkSync(draft, path); // atomic: fails where the lock is
        return () => {
          if (read(path) === mine) rmSync(path, { force: true });
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const held = read(path);
      const [pid, started = ""] = (held ?? "").trim().split(" ");
      if (held !== null && isRunning(Number(pid), started)) {
        throw new Error(
          `Another hub (process ${pid}) uses the data directory ${dataDir}: stop it, or set GFE_DATA_DIR to another one`,
        );
      }
      // Moved aside rather than deleted: of two that see the same stale lock, one rename wins.
      try {
        renameSync(path, `${draft}.stale`);
        rmSync(`${draft}.stale`, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function isRunning(pid: number, started: string): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const now = startedAt(pid);
  return now === null || started === "" || now === started;
}

/** Clock ticks from boot to the process's start, where the system tells; null elsewhere. */
function startedAt(pid: number): string | null {
  const stat = read(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}
