/** One PostgreSQL for all test files: GFE_TEST_DATABASE_URL or DATABASE_URL if set, else an embedded one of its own. */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../db/embedded-postgres.ts";

export default async function setup(): Promise<() => Promise<void>> {
  const given = process.env.GFE_TEST_DATABASE_URL ?? process.env.DATABASE_URL;
  if (given) {
    process.env.GFE_TEST_DATABASE_URL = given;
    return async () => {};
  }
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-test-"));
  chmodSync(dataDir, 0o711);
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => {}, maxConnections: 300 });
  process.env.GFE_TEST_DATABASE_URL = postgres.url;
  return async () => {
    await postgres.stop();
    rmSync(dataDir, { recursive: true, force: true });
  };
}
