/** The hub's database, for commands that read it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Config, createPool, lockDataDir, runningPostgres, startEmbeddedPostgres } from "@gfe/hub";
import { createLedger, type Verdict } from "@gfe/ledger";
import { Failure } from "./failure.ts";

/**
 * Gives `use` the address of the database that the configuration names. The embedded one is that of the running hub,
 * or is started for as long as it is used.
 */
export async function withDatabase<T>(config: Config, use: (databaseUrl: string) => Promise<T>): Promise<T> {
  const { dataDir, databaseUrl } = config;
  if (databaseUrl !== null) return use(databaseUrl);
  if (!existsSync(join(dataDir, "postgres", "PG_VERSION")))
    throw new Failure(`there is no database in ${dataDir}: set GFE_DATA_DIR or DATABASE_URL to the hub's`);
  let unlock: () => void;
  try {
    unlock = lockDataDir(dataDir);
  } catch (locked) {
    const running = runningPostgres(dataDir);
    if (running === null) throw locked;
    return use(running);
  }
  try {
    const postgres = await startEmbeddedPostgres({ dataDir, log: () => {} });
    try {
      return await use(postgres.url);
    } finally {
      await postgres.stop();
    }
  } finally {
    unlock();
  }
}

/** Recomputes every invariant of the ledger. */
export async function verifyLedger(databaseUrl: string): Promise<Verdict> {
  const pool = createPool(databaseUrl, () => {});
  try {
    return await createLedger({ pool }).verify();
  } finally {
    await pool.end();
  }
}
