import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { blake2b } from "./blake2b.ts";
import { formatMinisign, formatMinisignKey, parseMinisignKey, verifyMinisign } from "./minisign.ts";
import { compareVersions, verifyRelease } from "./release.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const NOW_S = 1_800_000_000;

function signer(keyId = randomBytes(8)) {
  const { privateKey } = generateKeyPairSync("ed25519");
  const publicKey = Buffer.from(privateKey.export({ format: "jwk" }).x!, "base64url");
  return {
    key: parseMinisignKey(formatMinisignKey(keyId, publicKey))!,
    sign: (text: string, comment: string) =>
      formatMinisign(keyId, (bytes) => sign(null, bytes, privateKey), blake2b(bytesOf(text)), comment),
  };
}

test("BLAKE2b agrees with OpenSSL's on whatever bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      expect(Buffer.from(blake2b(bytes)).toString("hex")).toBe(
        createHash("blake2b512").update(bytes).digest("hex"),
      );
    }),
    { numRuns: 60, examples: [[new Uint8Array()], [new Uint8Array(128)], [new Uint8Array(256)]] },
  );
});

describe("a signature", () => {
  const { key, sign: signed } = signer();
  const text = signed("the file", "timestamp:1\tfile:x");

  test("tells its trusted comment for the file it was made for", async () => {
    expect(await verifyMinisign(key, bytesOf("the file"), text)).toEqual({
      ok: true,
      trustedComment: "timestamp:1\tfile:x",
    });
  });

  test("of one whole line or another fits nothing when any letter of it is changed", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(text.length - 1), fc.constantFrom("A", "0", "+", "x"), async (at, letter) => {
        const changed = text.slice(0, at) + letter + text.slice(at + 1);
        const isUntrusted = at < text.indexOf("\n");
        fc.pre(changed !== text && !isUntrusted);
        expect((await verifyMinisign(key, bytesOf("the file"), changed)).ok).toBe(false);
      }),
    );
  });

  test("is refused for another file, by another key of the same id, and by another id", async () => {
    const id = Buffer.from("12345678");
    const [a, b] = [signer(id), signer(id)];
    const ofA = a.sign("x", "c");
    expect(await verifyMinisign(a.key, bytesOf("y"), ofA)).toEqual({ ok: false, reason: "forged" });
    expect(await verifyMinisign(b.key, bytesOf("x"), ofA)).toEqual({ ok: false, reason: "forged" });
    expect(await verifyMinisign(key, bytesOf("x"), ofA)).toEqual({ ok: false, reason: "other_key" });
    expect(await verifyMinisign(key, bytesOf("x"), "x".repeat(9_000))).toEqual({
      ok: false,
      reason: "malformed",
    });
  });
});

describe("a release", () => {
  const { key, sign: signed } = signer();
  const manifest = JSON.stringify({ version: "1.2.3", files: [] });
  const comment = (fields: Record<string, string | number>) =>
    Object.entries({
      timestamp: NOW_S - 10,
      file: "manifest.json",
      version: "1.2.3",
      expires: NOW_S + 10,
      ...fields,
    })
      .map(([name, value]) => `${name}:${value}`)
      .join("\t");
  const verdict = (fields: Record<string, string | number>, text = manifest) =>
    verifyRelease(key, bytesOf(text), signed(text, comment(fields)), NOW_S);

  test("is taken with its time of signing", async () => {
    expect(await verdict({})).toEqual({
      ok: true,
      manifest: { version: "1.2.3", files: [] },
      signedAtS: NOW_S - 10,
      expiresAtS: NOW_S + 10,
    });
  });

  test.each<[string, Record<string, string | number>, RegExp]>([
    ["that has expired", { expires: NOW_S }, /ended on 2027-01-15/],
    ["whose version is another's", { version: "1.2.4" }, /another version/],
    ["that is a signature of another file", { file: "SHA256SUMS" }, /another file/],
    ["without a time", { timestamp: "soon" }, /when it was made/],
  ])("%s is refused in words", async (_what, fields, reason) => {
    expect(await verdict(fields)).toEqual({ ok: false, reason: expect.stringMatching(reason) });
  });

  test("with a name that leads elsewhere is refused, signed or not", async () => {
    const file = {
      ...{ name: "../x", os: "linux", arch: "x64", kind: "slim" },
      ...{ bytes: 1, compressed_bytes: 1, sha256: "0".repeat(64) },
    };
    const text = JSON.stringify({ version: "1.2.3", files: [file] });
    expect(await verdict({}, text)).toEqual({ ok: false, reason: expect.stringMatching(/files\.0\.name/) });
  });
});

test("versions are ordered as semantic versioning says, and what is none is older than all", () => {
  const ordered = [
    "x",
    "0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
  ];
  ordered.push("1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0");
  for (const [i, a] of ordered.entries())
    for (const [j, b] of ordered.entries()) expect(Math.sign(compareVersions(a, b))).toBe(Math.sign(i - j));
});
