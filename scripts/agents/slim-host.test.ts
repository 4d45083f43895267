/** The native host against the cases that Node's host passes too (packages/agent/src/host-conformance.test.ts). */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type ConformanceServer,
  startConformanceServer,
} from "../../packages/agent/src/testing/conformance-server.ts";
import { conformanceCases } from "../../packages/agent/src/testing/host-conformance.ts";
import { buildSlimHere, canBuildSlim } from "./test-builds.ts";

const BUILD_MS = 600_000;
const RUN_MS = 60_000;
const here = await canBuildSlim("the native host");

describe.skipIf(!here)("the native host does what every host must", () => {
  let server: ConformanceServer;
  let directory: string;
  let program: string;
  const results = new Map<string, string | null>();

  beforeAll(async () => {
    server = await startConformanceServer();
    directory = mkdtempSync(join(tmpdir(), "gfe-conformance-"));
    program = await buildSlimHere("conformance");
    const { stdout } = await promisify(execFile)(program, [server.url, directory], { timeout: RUN_MS });
    for (const line of stdout.trim().split("\n")) {
      const { name, error } = JSON.parse(line) as { name: string; error: string | null };
      results.set(name, error);
    }
  }, BUILD_MS);
  afterAll(async () => {
    await server?.close();
    rmSync(directory, { recursive: true, force: true });
    if (program) rmSync(dirname(program), { recursive: true, force: true });
  });

  for (const { name } of conformanceCases)
    it(name, () => {
      expect(results.has(name), "it was run").toBe(true);
      expect(results.get(name)).toBeNull();
    });
});
