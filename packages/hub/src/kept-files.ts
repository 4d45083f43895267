/** Small files of the data directory that are made once and must never be found half-written: keys, secrets, names. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { GfeError } from "@gfe/protocol";

/** What is in the file; made, and readable by its owner only, where there is none. Throws where it is empty. */
export async function kept(path: string, make: () => string | Promise<string>): Promise<string> {
  if (!existsSync(path)) writeWhole(path, await make());
  const value = readFileSync(path, "utf8").trim();
  if (value === "") throw new GfeError("internal", `${path} is empty: restore it from a backup or delete it`);
  return value;
}

/** All of it is on the disk under that name, or nothing is. */
function writeWhole(path: string, text: string): void {
  const draft = `${path}.part`;
  try {
    const file = openSync(draft, "w", 0o600);
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** Words for an operator instead of a system call's, where a disk is full; any other error as it is. */
export function withoutRoom(error: unknown, dataDir: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new Error(`No room is left in ${dataDir}: free some, then start again`, { cause: error });
}
