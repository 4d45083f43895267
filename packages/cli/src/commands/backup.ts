import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BackupReport, backup, type Config, HUB_VERSION, rememberBackup } from "@gfe/hub";
import type { Command } from "commander";
import { withDatabase } from "../database.ts";
import { Failure, reporting } from "../failure.ts";
import { createProgress, formatBytes, stopSignal } from "../progress.ts";
import { readConfig } from "./hub.ts";

export function addBackup(program: Command): void {
  program
    .command("backup")
    .description("write everything a hub knows into one file, while it runs or not")
    .option("--to <path>", "the file, which must not exist, or a directory for one named by its time", ".")
    .option("--json", "one JSON object, without progress")
    .addHelpText(
      "after",
      `
The database is that of GFE_DATA_DIR or DATABASE_URL, as at one moment. With it come the hub's key, secret and id from
GFE_DATA_DIR. So the file holds secrets, and prompts and answers where their consumers had them kept: it is readable by
its owner only, and not encrypted. Nothing is at its name until it is whole; see docs/operations.md.
Examples:
  gfe backup --to /backups
  gfe restore /backups/gfe-20260102T030405Z.backup.gz --verify
`,
    )
    .action(
      reporting(async ({ to, json = false }: { to: string; json?: boolean }) => {
        const config = readConfig();
        const now = new Date();
        const path = pathOf(to, now);
        const progress = createProgress(json ? null : (line) => console.log(line));
        const report = await withDatabase(config, (databaseUrl) =>
          backup({
            ...{ databaseUrl, path, now },
            dataDir: config.dataDir,
            hubVersion: HUB_VERSION,
            onProgress: progress,
            signal: stopSignal(),
          }),
        );
        const warnings = [...warningsOf(report, config), ...remember(report, config)];
        console.log(json ? JSON.stringify({ ...report, warnings }) : describe(report));
        for (const warning of warnings) console.error(`gfe: warning: ${warning}`);
        process.exit(0); // the handlers of signals would keep it
      }),
    );
}

/** The backup is as good where the data directory may only be read. */
function remember(report: BackupReport, { dataDir }: Config): string[] {
  try {
    rememberBackup(dataDir, report);
    return [];
  } catch (error) {
    return [`the hub will not tell the backup's age: ${(error as Error).message}`];
  }
}

function pathOf(to: string, now: Date): string {
  const given = resolve(to);
  const isDirectory = existsSync(given) && statSync(given).isDirectory();
  const stamp = now.toISOString().replace(/[-:]|\.\d+/g, "");
  const path = isDirectory ? join(given, `gfe-${stamp}.backup.gz`) : given;
  if (existsSync(path)) throw new Failure(`${path} exists already: name another file with --to`);
  return path;
}

function describe({ path, bytes, sha256, tables, files, left_out }: BackupReport): string {
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  return `
${path}
  ${formatBytes(bytes)}, ${rows.toLocaleString("en")} rows of ${tables.length} tables${files.map((name) => `, ${name}`).join("")}
  SHA-256 ${sha256}${left_out.length > 0 ? `\n  Left out: the schema ${left_out.join(", ")}, which no migration of the hub makes` : ""}
  It holds secrets: keep it as safe as the hub itself. Try it: gfe restore ${path} --verify`;
}

function warningsOf({ files }: BackupReport, { dataDir, secret, hubKey }: Config): string[] {
  const given = { GFE_HUB_KEY: hubKey, GFE_SECRET: secret };
  const inEnvironment = Object.entries(given).flatMap(([name, value]) => (value === null ? [] : [name]));
  const needed = [...(hubKey === null ? ["hub-key.json"] : []), ...(secret === null ? ["secret"] : [])];
  const missing = needed.filter((name) => !(files as string[]).includes(name));
  return [
    ...(missing.length > 0
      ? [
          `${missing.join(" and ")} not in ${dataDir}, so not in the backup: restored without, agents must join and people sign in anew`,
        ]
      : []),
    ...inEnvironment.map((name) => `${name} is in the environment and not in the backup: keep it as well`),
  ];
}
