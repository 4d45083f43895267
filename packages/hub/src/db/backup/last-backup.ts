/** When the last backup was made, for whoever watches over that: a small file in the data directory. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BackupReport } from "./backup.ts";

const NAME = "last-backup.json";

export function rememberBackup(
  dataDir: string,
  { created_at, path, bytes, sha256 }: Pick<BackupReport, "created_at" | "path" | "bytes" | "sha256">,
): void {
  const draft = join(dataDir, `${NAME}.part`);
  writeFileSync(draft, `${JSON.stringify({ created_at, path, bytes, sha256 })}\n`, { mode: 0o600 });
  renameSync(draft, join(dataDir, NAME));
}

/** Seconds since 1970; 0 where there was none, or what is there cannot be read. */
export function lastBackupS(dataDir: string): number {
  try {
    const { created_at } = JSON.parse(readFileSync(join(dataDir, NAME), "utf8")) as { created_at: string };
    return Date.parse(created_at) / 1000 || 0;
  } catch {
    return 0;
  }
}
