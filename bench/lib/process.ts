/** What processes cost, as Linux counts it: CPU time, memory, and who is whose child. */
import { readdirSync, readFileSync } from "node:fs";

/** Ticks a second of /proc/PID/stat: fixed on Linux, whatever the kernel's own. */
const TICKS_PER_S = 100;
/** Behind the name, which may hold anything: state, ppid, … utime is the 12th, stime the 13th from there. */
function statOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

/** Milliseconds of CPU that a process has used since it began; 0 for one that has gone. */
export function cpuMs(pid: number): number {
  try {
    const stat = statOf(pid);
    return ((Number(stat[11]) + Number(stat[12])) * 1000) / TICKS_PER_S;
  } catch {
    return 0;
  }
}

/** A process's children, and theirs. */
export function descendants(pid: number): number[] {
  const parents = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const parent = Number(statOf(Number(name))[1]);
      const children = parents.get(parent);
      if (children) children.push(Number(name));
      else parents.set(parent, [Number(name)]);
    } catch {
      // Ended while it was looked at.
    }
  }
  const found: number[] = [];
  const open = [pid];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const children = parents.get(next) ?? [];
    found.push(...children);
    open.push(...children);
  }
  return found;
}

/** Resident memory in bytes; 0 for a process that has gone. */
export function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
