export { LedgerUnavailable } from "./batcher.ts";
export { createLedger, type LedgerOptions } from "./ledger.ts";
export { ledgerMigrations, type Migration, readMigrations } from "./migrations.ts";
export * from "./types.ts";
