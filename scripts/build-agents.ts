/**
 * `npm run build:agents [-- --only slim|full] [--target linux-x64]`: every executable of the agent, from this one machine, into
 * dist/agents/, with a manifest, sums and compressed copies. Fails where a file is above its limit.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { BuildFacts } from "@gfe/agent";
import { parseMinisignKey } from "@gfe/protocol";
import { bundleScript } from "./agents/bundle.ts";
import { buildFull } from "./agents/full.ts";
import { signMachO } from "./agents/macho.ts";
import { type BuiltFile, describeFile, fileTable, tooLarge, writeManifest } from "./agents/manifest.ts";
import { buildSlim, goVersion } from "./agents/slim.ts";
import { fileName, type Kind, TARGETS, type Target, targetName } from "./agents/targets.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const OUTPUT = join(ROOT, "dist", "agents");
const SLIM_ENTRY = join(ROOT, "packages/agent/src/slim/main.ts");

const { values } = parseArgs({ options: { only: { type: "string" }, target: { type: "string" } } });
const kinds: readonly Kind[] = (["slim", "full"] as const).filter((kind) => (values.only ?? kind) === kind);
const targets = TARGETS.filter((target) => (values.target ?? targetName(target)) === targetName(target));
if (kinds.length === 0 || targets.length === 0)
  fail(`--only is slim or full, --target one of ${TARGETS.map(targetName).join(", ")}`);

const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
rmSync(OUTPUT, { recursive: true, force: true });
mkdirSync(OUTPUT, { recursive: true });
const releaseKey = process.env.GFE_RELEASE_KEY ?? null;
if (releaseKey !== null && !parseMinisignKey(releaseKey))
  fail("GFE_RELEASE_KEY is not the second line of a minisign.pub");
const facts: BuildFacts = { kind: "executable", releaseKey, version };
const files: BuiltFile[] = [];
if (kinds.includes("slim")) {
  if (!(await goVersion())) fail("the slim executables need Go 1.26 or later on the PATH");
  const length = await bundleScript(SLIM_ENTRY, "agent", facts);
  console.log(`the agent's script has ${length.toLocaleString("en")} bytes`);
}
for (const kind of kinds) for (const target of targets) files.push(await build(kind, target));
writeManifest(OUTPUT, version, files);
console.log(`\n${fileTable(files)}\n`);
if (releaseKey === null)
  console.log("Without GFE_RELEASE_KEY: these programs trust no release and look for no updates.\n");
const problems = tooLarge(files);
if (problems.length > 0) fail(problems.join("\n"));

async function build(kind: Kind, target: Target): Promise<BuiltFile> {
  const path = join(OUTPUT, fileName(kind, target));
  await (kind === "slim" ? buildSlim(target, path) : buildFull(target, path, facts));
  if (target.os === "macos") writeFileSync(path, signMachO(readFileSync(path), "gfe-agent"));
  return describeFile(path, { ...target, kind });
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
