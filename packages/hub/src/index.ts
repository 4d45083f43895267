export {
  type Config,
  type ConfigProblem,
  type ConfigResult,
  configVariables,
  parseConfig,
} from "./config.ts";
export { lockDataDir } from "./db/data-dir-lock.ts";
export { type EmbeddedPostgres, startEmbeddedPostgres } from "./db/embedded-postgres.ts";
export { migrate } from "./db/migrate.ts";
export { createPool } from "./db/pool.ts";
export { type Hub, startHub } from "./hub.ts";
