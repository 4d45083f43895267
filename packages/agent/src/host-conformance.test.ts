import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, it } from "vitest";
import { createNodeHost } from "./node-host.ts";
import { type ConformanceServer, startConformanceServer } from "./testing/conformance-server.ts";
import { conformanceCases } from "./testing/host-conformance.ts";

describe("the Node host does what every host must", () => {
  let server: ConformanceServer;
  let directory: string;
  beforeAll(async () => {
    server = await startConformanceServer();
    directory = mkdtempSync(join(tmpdir(), "gfe-conformance-"));
  });
  afterAll(async () => {
    await server?.close();
    rmSync(directory, { recursive: true, force: true });
  });
  for (const { name, run } of conformanceCases)
    it(name, async () => {
      const own = mkdtempSync(join(directory, "case-"));
      const host = createNodeHost({ configDir: own, stateDir: own });
      await run({ host, url: server.url, directory: own });
    });
});
