export { LedgerUnavailable } from "./batcher.ts";
export { type Glance, glanceAtLedger } from "./glance.ts";
export { createLedger, type LedgerOptions } from "./ledger.ts";
export { ledgerMigrations, type Migration, readMigrations } from "./migrations.ts";
export * from "./types.ts";
