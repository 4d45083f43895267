export {
  type Config,
  type ConfigProblem,
  type ConfigResult,
  configVariables,
  parseConfig,
} from "./config.ts";
export { type BackupReport, backup } from "./db/backup/backup.ts";
export {
  type Look,
  type RestoreSteps,
  restoreDataDir,
  restoreOutside,
  restoreScratch,
} from "./db/backup/data-dir.ts";
export { rememberBackup } from "./db/backup/last-backup.ts";
export { type Inspected, inspectBackup } from "./db/backup/restore.ts";
export { lockDataDir } from "./db/data-dir-lock.ts";
export { type EmbeddedPostgres, startEmbeddedPostgres } from "./db/embedded-postgres.ts";
export { migrate } from "./db/migrate.ts";
export { createPool } from "./db/pool.ts";
export { runningPostgres } from "./db/running-postgres.ts";
export { HUB_VERSION, type Hub, startHub } from "./hub.ts";
