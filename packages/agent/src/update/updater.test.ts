/** Updates of a real file, from a server of signed releases. */
import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  blake2b,
  formatMinisign,
  formatMinisignKey,
  type MinisignKey,
  parseMinisignKey,
} from "@gfe/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Host } from "../host.ts";
import { createNodeHost } from "../node-host.ts";
import { replaceFile } from "../node-program.ts";
import { type Program, previousOf } from "../program.ts";
import { readRecord } from "./record.ts";
import { createUpdater, isOnTrial, type UpdaterOptions } from "./updater.ts";

const NAME = "gfe-linux-x64";
const OLD = "#!/bin/sh\necho old\n";
const GOOD = "#!/bin/sh\necho new joined\n";
const CRASHES = "#!/bin/sh\necho oh no >&2\nexit 134\n";
const HANGS = "#!/bin/sh\nexec sleep 60\n";
const LIMITS = { firstMs: 3_600_000, everyMs: 3_600_000, proveMs: 400 };

let root: string;
let server: Server;
let base: string;
let served: Map<string, Buffer>;
/** Of each request, its path and range. */
let asked: string[];
let cutAfter: number | null;
let host: Host;
let program: Program;
let restarts: string[];
let said: string[];
let signer: { key: MinisignKey; text(bytes: Buffer, comment: string): string };

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "gfe-update-"));
  mkdirSync(join(root, "bin"));
  [served, asked, restarts, said, cutAfter] = [new Map(), [], [], [], null];
  host = createNodeHost({ configDir: join(root, "config"), stateDir: join(root, "state") });
  const path = join(root, "bin/gfe");
  writeFileSync(path, OLD);
  chmodSync(path, 0o755);
  program = {
    ...{
      kind: "executable",
      command: [path],
      args: ["up"],
      target: { os: "linux", arch: "x64", kind: "full" },
    },
    replace: (file, previous) => replaceFile(path, file, previous),
    async restart() {
      restarts.push(readFileSync(path, "utf8"));
      return 7;
    },
  };
  signer = newSigner();
  server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, "http://x");
    asked.push(`${pathname}${request.headers.range ? ` ${request.headers.range}` : ""}`);
    const bytes = served.get(pathname);
    if (!bytes) return void response.writeHead(404).end();
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const rest = bytes.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, { "content-length": rest.byteLength });
    if (cutAfter === null || !pathname.startsWith("/files/")) return void response.end(rest);
    // Not destroyed: what lies in the kernel's buffers would be lost with it.
    response.write(rest.subarray(0, cutAfter), () => response.socket!.end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(root, { recursive: true, force: true });
});

function newSigner(keyId = randomBytes(8)): typeof signer {
  const { privateKey } = generateKeyPairSync("ed25519");
  const raw = Buffer.from(privateKey.export({ format: "jwk" }).x!, "base64url");
  return {
    key: parseMinisignKey(formatMinisignKey(keyId, raw))!,
    text: (bytes, comment) =>
      formatMinisign(keyId, (data) => sign(null, data, privateKey), blake2b(bytes), comment),
  };
}

const nowS = () => Math.floor(Date.now() / 1000);
function release(text: string, { version = "2.0.0", signedAtS = nowS(), by = signer } = {}): void {
  const sha256 = createHash("sha256").update(text).digest("hex");
  const file = {
    name: NAME,
    os: "linux",
    arch: "x64",
    kind: "full",
    bytes: text.length,
    compressed_bytes: 1,
    sha256,
  };
  const manifest = Buffer.from(JSON.stringify({ version, files: [file] }));
  const comment = `timestamp:${signedAtS}\tfile:manifest.json\tversion:${version}\texpires:${signedAtS + 86_400}`;
  served.set(`/files/${NAME}`, Buffer.from(text));
  served.set("/manifest.json", manifest);
  served.set("/manifest.json.minisig", Buffer.from(by.text(manifest, comment)));
}

/** Looks once, and ends the agent where it is asked to. Resolves with the exit status, if the program went on. */
async function update(options: Partial<UpdaterOptions> = {}, stopped = false): Promise<number | null> {
  let drained = false;
  const updater = createUpdater({
    ...{ host, program, base, key: signer.key, version: "1.0.0", mode: "auto", limits: LIMITS },
    tell: (text) => said.push(text),
    warn: (text) => said.push(text),
    drain() {
      drained = true;
    },
    ...options,
  });
  await updater.look();
  return updater.left(() => stopped).finally(() => expect(drained).toBe(updater.phase.name !== "resting"));
}
const lies = () => readFileSync(program.command[0], "utf8");

test("a good version takes the old one's place after the agent has left, and goes on", async () => {
  release(GOOD);
  expect(await update()).toBe(7);
  expect([lies(), restarts]).toEqual([GOOD, [GOOD]]);
  expect(readFileSync(previousOf(program), "utf8")).toBe(OLD);
  expect(said.at(-1)).toBe("Updated from 1.0.0 to 2.0.0.");
  expect(await readRecord(host)).toMatchObject({ trial: null, failed: null });
});

test.each([
  ["crashes", CRASHES, /did not join the hub \(it ended with 134\): version 1\.0\.0 goes on/],
  ["hangs", HANGS, /did not join the hub \(nothing in 0\.4 s\)/],
  ["cannot be started", "#!/nowhere/sh\n", /did not join the hub/],
])("one that %s is rolled back, and the old one goes on", async (_what, text, words) => {
  release(text);
  expect(await update()).toBe(7);
  expect([lies(), restarts]).toEqual([OLD, [OLD]]);
  expect(said.at(-1)).toMatch(words);
  expect(readdirSync(join(root, "bin")).filter((name) => /failed|new$/.test(name))).toEqual([]);
  expect(await readRecord(host)).toMatchObject({ trial: null, failed: { version: "2.0.0", tries: 1 } });
});

test("one that fails three times is left alone; the next is tried", async () => {
  release(CRASHES);
  for (let i = 0; i < 3; i++) expect(await update()).toBe(7);
  expect(await update()).toBeNull();
  release(GOOD, { version: "2.0.1" });
  await update();
  expect(lies()).toBe(GOOD);
});

describe("nothing is exchanged, and the agent goes on undisturbed,", () => {
  afterEach(() => {
    expect([lies(), restarts]).toEqual([OLD, []]);
  });

  test("where the signature is forged, or another key's", async () => {
    release(GOOD, { by: newSigner() });
    expect(await update()).toBeNull();
    expect(said).toEqual([expect.stringMatching(/signed with another key/)]);
    release(GOOD);
    served.set("/manifest.json", Buffer.from(String(served.get("/manifest.json")).replace("2.0.0", "3.0.0")));
    await update();
    expect(said.at(-1)).toMatch(/changed after it was signed/);
    expect(asked.some((path) => path.startsWith("/files"))).toBe(false);
  });

  test("where the file is not the one that was signed", async () => {
    release(GOOD);
    served.set(`/files/${NAME}`, Buffer.from(GOOD.replace("new", "bad")));
    expect(await update()).toBeNull();
    expect(said.at(-1)).toMatch(/SHA-256 does not fit/);
    expect(readdirSync(join(root, "state/updates"))).toEqual([]);
  });

  test("where more comes than was signed", async () => {
    release(GOOD);
    served.set(`/files/${NAME}`, Buffer.concat([Buffer.from(GOOD), Buffer.alloc(100_000)]));
    await update();
    expect(said.at(-1)).toMatch(/more came than was released/);
  });

  test("where an old release is shown again", async () => {
    release(GOOD, { version: "1.0.0", signedAtS: nowS() });
    await update();
    release(GOOD, { version: "2.0.0", signedAtS: nowS() - 100 });
    await update();
    expect(said).toEqual([expect.stringMatching(/signed before one that was seen already/)]);
  });

  test("where the release has expired, is absent, or of an older version", async () => {
    release(GOOD, { signedAtS: nowS() - 86_401 });
    await update();
    expect(said.at(-1)).toMatch(/its signature ended/);
    release(GOOD, { version: "0.9.0" });
    const before = said.length;
    await update();
    expect(said.length).toBe(before);
    served.clear();
    await update();
    expect(said.at(-1)).toMatch(/answered 404/);
  });

  test("where it may only tell, which it does once, with what to do", async () => {
    release(GOOD);
    await update({ mode: "notify" });
    await update({ program: { ...program, kind: "npm", target: null } });
    expect(said).toEqual([
      expect.stringMatching(/2\.0\.0 is out: start with --updates auto/),
      "Version 2.0.0 is out: npm install -g gpu-for-everyone@2.0.0",
    ]);
  });

  test("where its owner ends the agent meanwhile", async () => {
    release(GOOD);
    let drained = 0;
    const updater = createUpdater({
      ...{ host, program, base, key: signer.key, version: "1.0.0", mode: "auto", limits: LIMITS },
      ...{ tell() {}, warn() {}, drain: () => void drained++ },
    });
    await updater.look();
    expect([drained, await updater.left(() => true)]).toEqual([1, null]);
  });
});

test("a program's place that cannot be written is told, and the old one goes on", async () => {
  release(GOOD);
  expect(
    await update({ program: { ...program, replace: () => Promise.reject(new Error("read-only")) } }),
  ).toBe(7);
  expect(said.at(-1)).toMatch(/could not be replaced: read-only/);
  expect([lies(), (await readRecord(host)).trial]).toEqual([OLD, null]);
});

test("a download that was cut off goes on where it ended, also after a restart", async () => {
  const text = GOOD + "#".repeat(2_000_000);
  release(text);
  cutAfter = 300_000; // more than a reader drops of what it had not read yet
  expect(await update()).toBeNull();
  expect(said.at(-1)).toMatch(/could not be downloaded/);
  const part = readdirSync(join(root, "state/updates")).find((name) => name.endsWith(".part"))!;
  expect(part).toBeDefined();
  cutAfter = null;
  asked = [];
  await update();
  expect(asked.find((path) => path.startsWith("/files"))).toMatch(/ bytes=\d{5,}-$/);
  expect(lies()).toBe(text);
});

test("a new program knows that it is on trial, and one after a power cut that it is not", async () => {
  release('#!/bin/sh\ncp "$(dirname "$0")/../state/update.json" "$(dirname "$0")/../seen.json"\n');
  await update();
  const { trial } = JSON.parse(readFileSync(join(root, "seen.json"), "utf8"));
  expect(trial).toMatchObject({ from: "1.0.0", to: "2.0.0" });
  const put = (untilMs: number) =>
    writeFileSync(
      join(root, "state/update.json"),
      JSON.stringify({ seenSignedAtS: 5, failed: null, trial: { ...trial, untilMs } }),
    );
  put(Date.now() + 60_000);
  expect(await isOnTrial(host, "2.0.0")).toBe(true);
  put(Date.now() - 60_000);
  expect(await isOnTrial(host, "2.0.0")).toBe(false);
  expect(await readRecord(host)).toEqual({ seenSignedAtS: 5, failed: null, trial: null });
  expect(existsSync(join(root, "state/update.json"))).toBe(true);
});
