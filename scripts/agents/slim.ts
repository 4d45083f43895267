/** The slim executables: the Go program in slim/ with the agent's script inside, for one machine each. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { prepareEngine } from "./engine.ts";
import type { Target } from "./targets.ts";

const SLIM = new URL("../../slim/", import.meta.url).pathname;
const BUILD_MS = 600_000;
/** No function is put in the place of its calls: 0.6 MB less, for a little time. */
const COMPILER_FLAGS = "all=-l";

const run = promisify(execFile);
const here = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false" };

export async function goVersion(): Promise<string | null> {
  try {
    return (await run("go", ["version"], { timeout: 10_000 })).stdout.trim();
  } catch {
    return null;
  }
}

/** Builds for a target; the script must have been bundled. */
export async function buildSlim(
  target: Pick<Target, "goos" | "goarch">,
  to: string,
  tags: string[] = [],
): Promise<void> {
  const modFile = await prepareEngine(SLIM);
  await run("go", ["build", "-o", "dist/oneline", "./oneline"], { cwd: SLIM, timeout: BUILD_MS, env: here });
  const args = [
    ...["build", "-modfile", modFile, "-toolexec", `${SLIM}dist/oneline`, "-trimpath"],
    ...["-ldflags", "-s -w -buildid=", "-gcflags", COMPILER_FLAGS],
    ...["-tags", ["nethttpomithttp2", ...tags].join(","), "-o", to, "."],
  ];
  await run("go", args, {
    cwd: SLIM,
    timeout: BUILD_MS,
    env: { ...here, GOOS: target.goos, GOARCH: target.goarch },
  });
}
