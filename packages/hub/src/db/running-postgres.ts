import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** Lines of PostgreSQL's postmaster.pid, from 0. */
const [PORT_LINE, SOCKETS_LINE, STATUS_LINE] = [3, 4, 7];

/**
 * The address of the embedded database that another process runs for this data directory; null where none is ready.
 * Only who may enter its socket's directory gets in: the hub's user, and root.
 */
export function runningPostgres(dataDir: string): string | null {
  let lines: string[];
  try {
    lines = readFileSync(join(resolve(dataDir), "postgres", "postmaster.pid"), "utf8").split("\n");
  } catch {
    return null;
  }
  const sockets = lines[SOCKETS_LINE];
  if (!sockets || lines[STATUS_LINE]?.trim() !== "ready") return null;
  return `postgresql://gfe@localhost:${lines[PORT_LINE]}/gfe?host=${encodeURIComponent(sockets)}`;
}
