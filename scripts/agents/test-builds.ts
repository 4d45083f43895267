/** Builds of the slim program for tests on this machine. Go keeps what it compiled: the second build takes a second. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BuildFacts } from "@gfe/agent";
import { bundleScript } from "./bundle.ts";
import { buildFull, hasBun } from "./full.ts";
import { buildSlim, goVersion } from "./slim.ts";
import { TARGETS, type Target } from "./targets.ts";

const AGENT = new URL("../../packages/agent/src/slim/", import.meta.url).pathname;
const goos: Partial<Record<string, string>> = { linux: "linux", darwin: "darwin", win32: "windows" };
const goarch: Partial<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Whether this machine can build and run it. Says so aloud where it can't: CI must. */
export async function canBuildSlim(what: string): Promise<boolean> {
  if (await goVersion()) return true;
  console.warn(`\n*** Go is not installed: ${what} is NOT tested. Install Go 1.26 or later. ***\n`);
  return false;
}

/** The path of a program made for this machine: the agent, of other facts than none, or the conformance cases in its place. */
export async function buildSlimHere(
  kind: "agent" | "conformance",
  facts: BuildFacts | null = null,
): Promise<string> {
  const target = targetHere();
  const isAgent = kind === "agent";
  await bundleScript(join(AGENT, isAgent ? "main.ts" : "conformance-main.ts"), kind, facts);
  const path = join(mkdtempSync(join(tmpdir(), "gfe-slim-")), `gfe-${kind}`);
  await buildSlim(target, path, isAgent ? [] : ["conformance"]);
  return path;
}

/** Whether the full executable can be made here without fetching Bun; CI fetches it. */
export function canBuildFull(what: string): boolean {
  if (hasBun() || process.env.CI) return true;
  console.warn(
    `\n*** Bun was not fetched: ${what} is NOT tested. \`npm run build:agents\` fetches it. ***\n`,
  );
  return false;
}

export async function buildFullHere(): Promise<string> {
  const path = join(mkdtempSync(join(tmpdir(), "gfe-full-")), "gfe");
  await buildFull(targetHere(), path, { kind: "executable", releaseKey: null });
  return path;
}

function targetHere(): Target {
  const target = TARGETS.find(
    (one) => one.goos === goos[process.platform] && one.goarch === goarch[process.arch],
  );
  if (!target) throw new Error(`there is no executable for ${process.platform} ${process.arch}`);
  return target;
}
