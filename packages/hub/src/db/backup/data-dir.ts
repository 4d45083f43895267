/** Restoring what belongs into a data directory: an embedded database, and the hub's key, secret and id. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lockDataDir, RESTORING } from "../data-dir-lock.ts";
import { startEmbeddedPostgres } from "../embedded-postgres.ts";
import { makeDataDir } from "../postgres-binaries.ts";
import { type Inspected, type RestoreOptions, restoreDatabase } from "./restore.ts";
import { syncDirectory } from "./write.ts";

export type RestoreSteps = Omit<RestoreOptions, "databaseUrl">;
/** Looks at what was restored, before anybody else does. */
export type Look<T> = (databaseUrl: string) => Promise<T>;

/** Restores into a database of its own that is thrown away again. */
export async function restoreScratch<T>(backup: Inspected, steps: RestoreSteps, look: Look<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "gfe-verify-"));
  try {
    chmodSync(dir, 0o711); // PostgreSQL's user may enter where we are root
    return await fillEmbedded(dir, backup, steps, look);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Restores into a data directory that is empty or missing. Until all is there, no hub starts on it. */
export async function restoreDataDir<T>(
  dataDir: string,
  backup: Inspected,
  steps: RestoreSteps,
  look: Look<T>,
): Promise<T> {
  makeDataDir(dataDir);
  const unlock = lockDataDir(dataDir);
  const draft = join(dataDir, RESTORING);
  try {
    const there = readdirSync(dataDir).filter((name) => name !== "hub.lock");
    if (there.length > 0)
      throw new Error(
        `${dataDir} is not empty (${there.slice(0, 3).join(", ")}): restore into another directory; nothing was changed`,
      );
    let seen: T;
    try {
      makeDataDir(draft);
      seen = await fillEmbedded(draft, backup, steps, look);
      await writeKeptFiles(draft, backup);
    } catch (error) {
      rmSync(draft, { recursive: true, force: true });
      throw error;
    }
    for (const name of readdirSync(draft)) renameSync(join(draft, name), join(dataDir, name));
    await syncDirectory(dataDir);
    rmdirSync(draft);
    await syncDirectory(dataDir);
    return seen;
  } finally {
    unlock();
  }
}

/** Restores into a database of its operator's; the files go into the data directory, where they must not be others. */
export async function restoreOutside<T>(
  databaseUrl: string,
  dataDir: string,
  backup: Inspected,
  steps: RestoreSteps,
  look: Look<T>,
): Promise<T> {
  makeDataDir(dataDir);
  const unlock = lockDataDir(dataDir);
  try {
    const written = await writeKeptFiles(dataDir, backup);
    try {
      await restoreDatabase(backup, { databaseUrl, ...steps });
    } catch (error) {
      for (const path of written) rmSync(path, { force: true });
      throw error;
    }
    return await look(databaseUrl);
  } finally {
    unlock();
  }
}

async function fillEmbedded<T>(
  dataDir: string,
  backup: Inspected,
  steps: RestoreSteps,
  look: Look<T>,
): Promise<T> {
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => {} });
  try {
    await restoreDatabase(backup, { databaseUrl: postgres.url, ...steps });
    return await look(postgres.url);
  } finally {
    await postgres.stop();
  }
}

/** Returns the paths of those that were not there. Nothing is written where one is there with another content. */
async function writeKeptFiles(dataDir: string, { files }: Inspected): Promise<string[]> {
  const missing: [path: string, content: Buffer][] = [];
  for (const [name, content] of files) {
    const path = join(dataDir, name);
    const there = contentOf(path);
    if (there === null) missing.push([path, content]);
    else if (!there.equals(content))
      throw new Error(
        `${path} is another than the backup's: set GFE_DATA_DIR to an empty directory; nothing was changed`,
      );
  }
  for (const [path, content] of missing) await writeDurably(path, content);
  await syncDirectory(dataDir);
  return missing.map(([path]) => path);
}

function contentOf(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

async function writeDurably(path: string, content: Buffer): Promise<void> {
  const draft = `${path}.part`;
  const file = await open(draft, "w", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  renameSync(draft, path);
}
