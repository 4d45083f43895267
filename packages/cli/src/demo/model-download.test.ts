import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { downloadModel, type ModelFile } from "./model-download.ts";

const content = Buffer.alloc(300_000, "model");
const sha256 = createHash("sha256").update(content).digest("hex");
let directory: string;
let server: Server;
let model: ModelFile;
let cutAfter: number | null;
let ranges: (string | undefined)[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "gfe-model-"));
  cutAfter = null;
  ranges = [];
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { "content-length": content.length - from });
    if (cutAfter === null) response.end(content.subarray(from));
    else response.write(content.subarray(from, cutAfter), () => setTimeout(() => response.destroy(), 20));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  model = {
    name: "m",
    url: `http://127.0.0.1:${port}/m.gguf`,
    bytes: content.length,
    sha256,
    licence: "none",
  };
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

it("brings the whole file and tells how far it is", async () => {
  const path = join(directory, "m.gguf");
  const progress: number[] = [];
  await downloadModel(model, path, (bytes) => progress.push(bytes));
  expect(readFileSync(path).equals(content)).toBe(true);
  expect(progress.at(-1)).toBe(content.length);
});

it("goes on where it broke off", async () => {
  const path = join(directory, "m.gguf");
  cutAfter = 100_000;
  await expect(downloadModel(model, path, () => {})).rejects.toThrow("broke off");
  expect(existsSync(path)).toBe(false);
  const kept = statSync(`${path}.part`).size;
  expect(kept).toBeGreaterThan(0);
  cutAfter = null;
  await downloadModel(model, path, () => {});
  expect(ranges).toEqual([undefined, `bytes=${kept}-`]);
  expect(readFileSync(path).equals(content)).toBe(true);
});

it("refuses a file whose hash differs, and keeps nothing of it", async () => {
  const path = join(directory, "m.gguf");
  await expect(downloadModel({ ...model, sha256: "0".repeat(64) }, path, () => {})).rejects.toThrow(
    "hash differs",
  );
  expect(existsSync(path) || existsSync(`${path}.part`)).toBe(false);
});

it("does not trust what an earlier, other download left", async () => {
  const path = join(directory, "m.gguf");
  writeFileSync(`${path}.part`, "something else");
  await expect(downloadModel(model, path, () => {})).rejects.toThrow("hash differs");
});

it("says so when the host cannot be reached", async () => {
  await expect(
    downloadModel({ ...model, url: "http://127.0.0.1:1/m.gguf" }, join(directory, "m"), () => {}),
  ).rejects.toThrow("cannot be reached");
});
