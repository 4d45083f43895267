import { execFile } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Failure } from "./failure.ts";

const WEB = fileURLToPath(new URL("../../web/", import.meta.url));
const SOURCES = ["src", "index.html", "vite.config.ts", "package.json", "../sdk/src", "../protocol/src"];
const BUILD_TIMEOUT_MS = 120_000;

/** Builds the dashboard where it is missing or older than what it is made of; takes about two seconds then. */
export async function buildDashboard(): Promise<void> {
  const built = join(WEB, "dist", "index.html");
  if (
    existsSync(built) &&
    statSync(built).mtimeMs >= Math.max(...SOURCES.map((source) => newest(join(WEB, source))))
  )
    return;
  console.log("Building the dashboard (once) …");
  const vite = fileURLToPath(new URL("../../../node_modules/vite/bin/vite.js", import.meta.url));
  try {
    await promisify(execFile)(process.execPath, [vite, "build", "--logLevel", "warn"], {
      cwd: WEB,
      timeout: BUILD_TIMEOUT_MS,
    });
  } catch (cause) {
    throw new Failure(
      `the dashboard could not be built: ${(cause as { stderr?: string }).stderr ?? String(cause)}`,
      { cause },
    );
  }
}

function newest(path: string): number {
  if (!existsSync(path)) return 0;
  const stats = statSync(path);
  if (!stats.isDirectory()) return stats.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}
