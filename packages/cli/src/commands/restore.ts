import { resolve } from "node:path";
import {
  HUB_VERSION,
  type Inspected,
  inspectBackup,
  type RestoreSteps,
  restoreDataDir,
  restoreOutside,
  restoreScratch,
} from "@gfe/hub";
import type { Verdict } from "@gfe/ledger";
import type { Command } from "commander";
import { verifyLedger } from "../database.ts";
import { Failure, reporting } from "../failure.ts";
import { createProgress, stopSignal } from "../progress.ts";
import { readConfig } from "./hub.ts";

interface Options {
  verify?: boolean;
  into?: string;
  json?: boolean;
}

export function addRestore(program: Command): void {
  program
    .command("restore")
    .description("bring a backup back, into an empty data directory or database only")
    .argument("<file>", "what gfe backup wrote")
    .option("--verify", "only try it: restore into a scratch database, check the books, throw it away")
    .option(
      "--into <place>",
      "a data directory that is empty or missing, or the address of an empty PostgreSQL",
    )
    .option("--json", "one JSON object, without progress")
    .addHelpText(
      "after",
      `
Without --into it goes into DATABASE_URL, or else into GFE_DATA_DIR with a database of its own; the hub's key, secret and
id go into that directory. Before anything is written the file is read to its end: one that is foreign, damaged, cut
short or of a newer program is refused. What was restored is counted against the file, and the ledger verified:
exit status 1 where a check does not hold. --verify with --into restores there.
Examples:
  gfe restore hub.backup.gz --verify
  gfe restore hub.backup.gz --into /var/lib/gpu-for-everyone
  DATABASE_URL=postgresql://gfe@db.example.org/gfe gfe restore hub.backup.gz
`,
    )
    .action(
      reporting(async (file: string, options: Options) => {
        const json = options.json === true;
        const backup = await inspectBackup(resolve(file));
        const steps: RestoreSteps = {
          onProgress: createProgress(json ? null : (line) => console.log(line)),
          signal: stopSignal(),
        };
        const { target, verdict } = await restore(backup, steps, options);
        const checks = [countsOf(backup), ...verdict.checks];
        const ok = checks.every((check) => check.ok);
        if (json) console.log(JSON.stringify({ ok, ...summaryOf(backup), target, checks }));
        else console.log(describe(backup, target, checks));
        process.exit(ok ? 0 : 1);
      }),
    );
}

/** `target` is null where it was only tried. */
async function restore(
  backup: Inspected,
  steps: RestoreSteps,
  { verify, into }: Options,
): Promise<{ target: string | null; verdict: Verdict }> {
  if (verify && into === undefined)
    return { target: null, verdict: await restoreScratch(backup, steps, verifyLedger) };
  const config = readConfig();
  const isAddress = into !== undefined && /^postgres(ql)?:\/\//.test(into);
  if (isAddress && !URL.canParse(into)) throw new Failure("--into is not the address of a PostgreSQL");
  const databaseUrl = isAddress ? into : into === undefined ? config.databaseUrl : null;
  if (databaseUrl !== null) {
    const verdict = await restoreOutside(databaseUrl, config.dataDir, backup, steps, verifyLedger);
    return { target: `${nameOf(databaseUrl)}, keys in ${config.dataDir}`, verdict };
  }
  const dataDir = into === undefined ? config.dataDir : resolve(into);
  return { target: dataDir, verdict: await restoreDataDir(dataDir, backup, steps, verifyLedger) };
}

/** Without its password. */
function nameOf(databaseUrl: string): string {
  const { hostname, pathname } = new URL(databaseUrl);
  return `the database ${pathname.slice(1)}${hostname ? ` at ${hostname}` : ""}`;
}

/** restoreDatabase counts them, and throws where they differ. */
function countsOf({ end }: Inspected): Verdict["checks"][number] {
  const rows = end.tables.reduce((sum, table) => sum + table.rows, 0);
  return {
    name: `every table has the rows of the backup (${rows.toLocaleString("en")} in ${end.tables.length} tables)`,
    ok: true,
    detail: "holds",
  };
}

const summaryOf = ({ manifest, end, files }: Inspected) => ({
  created_at: manifest.created_at,
  hub_version: manifest.hub_version,
  tables: end.tables,
  files: [...files.keys()],
});

function describe(backup: Inspected, target: string | null, checks: Verdict["checks"]): string {
  const { manifest, then, now } = backup;
  return [
    ...checks.map(({ name, ok, detail }) => `${ok ? "✓" : "✗"} ${name}${ok ? "" : `: ${detail}`}`),
    "",
    `A backup of ${manifest.created_at}, by version ${manifest.hub_version} (this is ${HUB_VERSION}${now.length > then.length ? `, ${now.length - then.length} migrations newer` : ""}).`,
    target === null
      ? "It can be restored. Nothing was changed."
      : `Restored into ${target}. Start the hub there, and no other on this data.`,
  ].join("\n");
}
