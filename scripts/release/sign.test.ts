import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseMinisignKey, verifyMinisign, verifyRelease } from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeReleaseKey, type ReleaseKey, readReleaseKey } from "./keys.ts";
import { signRelease } from "./sign.ts";

const NOW_S = 1_800_000_000;
const FILE = "gfe-agent-slim-linux-x64";
const withoutMinisign = spawnSync("minisign", ["-v"]).error !== undefined;
if (withoutMinisign)
  console.warn("NOT TESTED: minisign is absent, so nothing says that our signatures are its.");

let directory: string;
let key: ReleaseKey;
const at = (name: string) => join(directory, name);
const read = (name: string) => new Uint8Array(readFileSync(at(name)));

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "gfe-sign-"));
  key = makeReleaseKey(at("release.key"));
  writeFileSync(at(FILE), "a program");
  const sha256 = createHash("sha256").update("a program").digest("hex");
  const file = { name: FILE, os: "linux", arch: "x64", kind: "slim", bytes: 9, compressed_bytes: 5, sha256 };
  writeFileSync(at("manifest.json"), JSON.stringify({ version: "1.2.3", files: [file] }));
  writeFileSync(at("SHA256SUMS"), `${sha256}  ${FILE}\n`);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const signAll = () => signRelease({ directory, key, nowS: NOW_S, expiresDays: 180 });

describe("signing a release", () => {
  test("gives every file a signature that fits it and names it, and the manifest one that agents take", async () => {
    const publicKey = parseMinisignKey(key.publicFile)!;
    const signed = signAll();
    expect(signed.toSorted()).toEqual(
      [FILE, "SHA256SUMS", "install.ps1", "install.sh", "manifest.json"].toSorted(),
    );
    for (const name of signed)
      expect(
        await verifyMinisign(publicKey, read(name), readFileSync(at(`${name}.minisig`), "utf8")),
      ).toMatchObject({ ok: true, trustedComment: expect.stringContaining(`\tfile:${name}\t`) });
    const signature = readFileSync(at("manifest.json.minisig"), "utf8");
    expect(await verifyRelease(publicKey, read("manifest.json"), signature, NOW_S)).toMatchObject({
      ok: true,
      signedAtS: NOW_S,
      expiresAtS: NOW_S + 180 * 86_400,
    });
  });

  test("puts the public key into the installers", () => {
    signAll();
    const line = key.publicFile.split("\n")[1]!;
    for (const name of ["install.sh", "install.ps1"]) {
      expect(readFileSync(at(name), "utf8")).toContain(line);
      expect(readFileSync(at(name), "utf8")).not.toContain("@RELEASE_KEY@");
    }
  });

  test("refuses what is not what the manifest says, by its name", () => {
    writeFileSync(at(FILE), "another");
    expect(signAll).toThrow(`${FILE} is not what manifest.json says`);
    writeFileSync(at(FILE), "a program");
  });
});

test("a key is for its owner's eyes, is not made twice over, and is told from what is none", () => {
  expect(statSync(at("release.key")).mode & 0o777).toBe(0o600);
  expect(() => makeReleaseKey(at("release.key"))).toThrow("EEXIST");
  expect(readReleaseKey(at("release.key")).publicFile).toBe(key.publicFile);
  expect(() => readReleaseKey(at("release.key.pub"))).toThrow("is not a minisign secret key");
});

describe.skipIf(withoutMinisign)("minisign itself", () => {
  const minisign = (...args: string[]) => execFileSync("minisign", args, { encoding: "utf8" });

  test("takes our signatures, and shows their comments", () => {
    signAll();
    for (const name of [FILE, "manifest.json", "SHA256SUMS"])
      expect(minisign("-V", "-p", at("release.key.pub"), "-m", at(name))).toMatch(
        new RegExp(`verified[\\s\\S]*file:${name}`),
      );
    expect(() =>
      minisign("-V", "-p", at("release.key.pub"), "-m", at(FILE), "-x", at("SHA256SUMS.minisig")),
    ).toThrow();
  });

  test("signs with our keys what we take, hashed or not", async () => {
    const publicKey = parseMinisignKey(key.publicFile)!;
    for (const legacy of [[], ["-l"]]) {
      minisign(
        "-S",
        ...legacy,
        "-s",
        at("release.key"),
        "-m",
        at(FILE),
        "-x",
        at("by-minisign"),
        "-t",
        "hello",
      );
      expect(await verifyMinisign(publicKey, read(FILE), readFileSync(at("by-minisign"), "utf8"))).toEqual({
        ok: true,
        trustedComment: "hello",
      });
    }
  });

  test("has keys that we read, without a password", () => {
    minisign("-G", "-W", "-f", "-p", at("its.pub"), "-s", at("its.key"));
    expect(readReleaseKey(at("its.key")).publicFile.split("\n")[1]).toBe(
      readFileSync(at("its.pub"), "utf8").split("\n")[1],
    );
  });
});
