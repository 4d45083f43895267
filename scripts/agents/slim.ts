/** The slim executables: the Go program in slim/ with the agent's script inside, for one machine each. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Target } from "./targets.ts";

const SLIM = new URL("../../slim/", import.meta.url).pathname;
const BUILD_MS = 600_000;

const run = promisify(execFile);

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
  const allTags = ["nethttpomithttp2", ...tags].join(",");
  await run("go", ["build", "-trimpath", "-tags", allTags, "-ldflags", "-s -w", "-o", to, "."], {
    cwd: SLIM,
    timeout: BUILD_MS,
    env: {
      ...process.env,
      CGO_ENABLED: "0",
      GOOS: target.goos,
      GOARCH: target.goarch,
      GOFLAGS: "-buildvcs=false",
    },
  });
}
