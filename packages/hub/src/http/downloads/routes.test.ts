import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { FastifyInstance, InjectOptions } from "fastify";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createServer } from "../server.ts";
import { registerWeb } from "../web.ts";
import { parseRange } from "./range.ts";
import { registerDownloads } from "./routes.ts";

const NAME = "gfe-agent-slim-linux-x64";
const PROGRAM = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 251));
const SHA256 = createHash("sha256").update(PROGRAM).digest("hex");
let root: string;
let app: FastifyInstance;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "gfe-downloads-"));
  mkdirSync(join(root, "empty"));
  const release = join(root, "release");
  mkdirSync(release);
  const file = { os: "linux", arch: "x64", kind: "slim", bytes: 1000, compressed_bytes: 9, sha256: SHA256 };
  const files = [NAME, "linked"].map((name) => ({ name, ...file }));
  const put = (name: string, text: string | Buffer) => writeFileSync(join(release, name), text);
  put(NAME, PROGRAM);
  put(`${NAME}.xz`, "packed");
  put(`${NAME}.minisig`, "a signature");
  put("manifest.json", JSON.stringify({ version: "1.2.3", files }));
  put("manifest.json.minisig", "a signature");
  put("install.sh", "GFE_HUB='@HUB@'\n");
  put("secret.txt", "outside");
  writeFileSync(join(root, "secret.txt"), "outside");
  symlinkSync(join(root, "secret.txt"), join(release, "linked"));
  app = await serve("release");
});
afterAll(async () => {
  await app.close();
  rmSync(root, { recursive: true, force: true });
});

async function serve(folder: string, hubUrl = "https://hub.example"): Promise<FastifyInstance> {
  const server = createServer({
    ...{ log: pino({ level: "silent" }), bodyLimitBytes: 1024 },
    ...{ trustedProxies: [], https: false },
  });
  registerDownloads(server, { directory: join(root, folder), hubUrl });
  await registerWeb(server, join(root, "no-dashboard/"));
  return server;
}
const get = (url: string, headers: InjectOptions["headers"] = {}) =>
  app.inject({ method: "GET", url, headers });
const FILE = `/download/files/${NAME}`;

describe("a file of the release", () => {
  test("comes whole, with its length and its sum as its tag, and is asked for anew", async () => {
    const { rawPayload, headers, statusCode } = await get(FILE);
    expect(statusCode).toBe(200);
    expect(rawPayload.equals(PROGRAM)).toBe(true);
    expect(headers).toMatchObject({
      "content-length": "1000",
      "content-type": "application/octet-stream",
      etag: `"${SHA256}"`,
      "accept-ranges": "bytes",
      "cache-control": "no-cache",
      "x-content-type-options": "nosniff",
    });
  });

  test("is kept for ever under its sum, and under no other", async () => {
    const kept = async (sum: string) => (await get(`${FILE}?sha256=${sum}`)).headers["cache-control"];
    expect(await kept(SHA256)).toBe("public, max-age=31536000, immutable");
    expect(await kept("0".repeat(64))).toBe("no-cache");
  });

  test("is not sent again to who has it", async () => {
    const { statusCode, body } = await get(FILE, { "if-none-match": `W/"x", "${SHA256}"` });
    expect([statusCode, body]).toEqual([304, ""]);
  });

  test("goes on where a download was cut off, unless it is another file by now", async () => {
    const part = await get(FILE, { range: "bytes=990-", "if-range": `"${SHA256}"` });
    expect([part.statusCode, part.headers["content-range"]]).toEqual([206, "bytes 990-999/1000"]);
    expect(part.rawPayload.equals(PROGRAM.subarray(990))).toBe(true);
    expect((await get(FILE, { range: "bytes=990-", "if-range": '"old"' })).statusCode).toBe(200);
    const beyond = await get(FILE, { range: "bytes=1000-" });
    expect([beyond.statusCode, beyond.headers["content-range"]]).toEqual([416, "bytes */1000"]);
  });

  test("tells its size to who only asks for that", async () => {
    const { statusCode, headers, body } = await app.inject({ method: "HEAD", url: FILE });
    expect([statusCode, headers["content-length"], body]).toEqual([200, "1000", ""]);
  });

  test.each([`${NAME}.xz`, `${NAME}.minisig`, "manifest.json"])(
    "has what belongs to it: %s",
    async (name) => {
      expect((await get(`/download/files/${name}`)).statusCode).toBe(200);
    },
  );
});

test("ranges are inside of the file and never empty, whatever is asked for", () => {
  fc.assert(
    fc.property(fc.nat(50), fc.option(fc.nat(60)), fc.option(fc.nat(60)), (size, from, to) => {
      const range = parseRange(`bytes=${from ?? ""}-${to ?? ""}`, size);
      if (range.type !== "part") return;
      expect(range.from).toBeGreaterThanOrEqual(0);
      expect(range.to).toBeGreaterThanOrEqual(range.from);
      expect(range.to).toBeLessThan(size);
      if (from !== null) expect(range.from).toBe(from);
      else expect(range.to - range.from + 1).toBe(Math.min(size, to!));
    }),
  );
});

test.each([
  "secret.txt",
  "../secret.txt",
  "..%2fsecret.txt",
  "%2e%2e/secret.txt",
  "..%5csecret.txt",
  "%2fetc%2fpasswd",
  "linked",
  "manifest.json%00.minisig",
  `${NAME}%00`,
  `./${NAME}/../secret.txt`,
  ".",
])("nothing but the release is served: %s", async (name) => {
  const response = await get(`/download/files/${name}`);
  expect(response.statusCode).toBeGreaterThanOrEqual(400);
  expect(response.body).not.toContain("outside");
});

test("the installer knows where it came from, and is no page", async () => {
  const { body, headers } = await get("/install.sh");
  expect(body).toBe("GFE_HUB='https://hub.example'\n");
  expect(headers["content-type"]).toBe("text/plain; charset=utf-8");
  const odd = await serve("release", "https://hub.example'$(id)");
  expect((await odd.inject("/install.sh")).statusCode).toBe(404);
  await odd.close();
});

test("a hub without a signed release says so, and takes one that is put there while it runs", async () => {
  const bare = await serve("empty");
  for (const url of [FILE, "/download/manifest.json"]) {
    const { statusCode, body } = await bare.inject(url);
    expect([statusCode, body]).toEqual([404, expect.stringContaining("GFE_DOWNLOADS_DIR")]);
  }
  expect((await bare.inject("/install.sh")).statusCode).toBe(404);
  expect((await bare.inject("/download")).statusCode).toBe(200);
  writeFileSync(join(root, "empty/manifest.json"), JSON.stringify({ version: "1.0.0", files: [] }));
  expect((await bare.inject("/download/manifest.json")).statusCode).toBe(404); // built and not signed
  writeFileSync(join(root, "empty/manifest.json.minisig"), "a signature");
  expect((await bare.inject("/download/manifest.json")).json()).toMatchObject({ version: "1.0.0" });
  await bare.close();
});
