/** A disk of a test's own that is soon full: memory, mounted where only root may. */
import { execFileSync } from "node:child_process";
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface SmallDisk {
  path: string;
  /** Leaves nothing free, or as many bytes as told (whole pages). */
  fill(leave?: number): void;
  free(): void;
  unmount(): void;
}

const FILLER = "filler";
const PAGE = Buffer.alloc(4096, 1);

/** Null where this machine does not let us. */
export function mountSmallDisk(bytes: number): SmallDisk | null {
  const path = join(mkdtempSync(join(tmpdir(), "gfe-disk-")), "disk");
  mkdirSync(path);
  chmodSync(join(path, ".."), 0o711);
  const forget = () => rmSync(join(path, ".."), { recursive: true, force: true });
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=0711`, "tmpfs", path], {
      stdio: "ignore",
    });
  } catch {
    forget();
    return null;
  }
  const filler = join(path, FILLER);
  const free = () => rmSync(filler, { force: true });
  return {
    path,
    free,
    fill(leave = 0) {
      const spare = join(path, `${FILLER}-spare`);
      if (leave > 0) writeAll(spare, leave);
      writeAll(filler, Number.POSITIVE_INFINITY);
      rmSync(spare, { force: true });
    },
    unmount() {
      execFileSync("umount", ["--lazy", path], { stdio: "ignore" });
      forget();
    },
  };
}

/** Writes so many bytes, or all that there is room for. */
function writeAll(path: string, bytes: number): void {
  const file = openSync(path, "a");
  try {
    for (let written = 0; written < bytes; ) written += writeSync(file, PAGE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    closeSync(file);
  }
}
