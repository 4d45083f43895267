import { createPrivateKey, createPublicKey, verify as nodeVerify } from "node:crypto";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import {
  canonicalBytes,
  createSigner,
  fromBase64Url,
  generateKeyPair,
  type KeyPair,
  randomToken,
  type Signable,
  type Signer,
  toBase64Url,
  verifySignature,
} from "./signing.ts";

const textOf = (value: Signable): string => new TextDecoder().decode(canonicalBytes(value));

const signable = fc.letrec<{ value: Signable; record: { [key: string]: Signable } }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.string({ unit: "binary" }),
    fc.array(tie("value"), { maxLength: 4 }),
    tie("record"),
  ),
  record: fc.dictionary(fc.string(), tie("value"), { maxKeys: 5, noNullPrototype: true }),
}));

function reversed(value: Signable): Signable {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(reversed);
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, member]) => [key, reversed(member as Signable)]),
  );
}

describe("canonical bytes", () => {
  test("do not depend on the order in which keys were written", () => {
    fc.assert(
      fc.property(signable.value, (value) => {
        expect(textOf(reversed(value))).toBe(textOf(value));
      }),
    );
  });

  test("are JSON of the same value", () => {
    fc.assert(
      fc.property(signable.value, (value) => {
        expect(JSON.parse(textOf(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test("sort keys by code unit, at every depth, and keep lists as they are", () => {
    expect(textOf({ b: [2, 1], a: { é: null, z: true, Z: "\n€" }, "": -5 })).toBe(
      '{"":-5,"a":{"Z":"\\n€","z":true,"é":null},"b":[2,1]}',
    );
  });

  test("leave out what is undefined, as JSON does on its way", () => {
    expect(textOf({ a: undefined, b: 1 })).toBe(textOf({ b: 1 }));
  });

  test.each([0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, -(2 ** 53)])(
    "there are none of %d",
    (number) => {
      expect(() => canonicalBytes({ purpose: "p", deep: [{ number }] })).toThrow("only safe integers");
    },
  );
});

describe("signatures", () => {
  let pair: KeyPair;
  let signer: Signer;
  let other: Signer;
  beforeAll(async () => {
    pair = await generateKeyPair();
    signer = await createSigner(pair);
    other = await createSigner(await generateKeyPair());
  });

  test("hold for the value in any order of keys, and for nobody else's key", async () => {
    await fc.assert(
      fc.asyncProperty(signable.record, async (record) => {
        const signature = await signer.sign({ ...record, purpose: "test" });
        const shuffled = reversed({ ...record, purpose: "test" });
        expect(await verifySignature(signer.publicKey, shuffled, signature)).toBe(true);
        expect(await verifySignature(other.publicKey, shuffled, signature)).toBe(false);
      }),
    );
  });

  test("fail on any bit that is turned", async () => {
    const value = { purpose: "test", tokens: 40 };
    const signature = await signer.sign(value);
    await fc.assert(
      fc.asyncProperty(fc.nat(511), async (bit) => {
        const bytes = fromBase64Url(signature);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expect(await verifySignature(signer.publicKey, value, toBase64Url(bytes))).toBe(false);
      }),
    );
  });

  test.each<[string, Signable]>([
    ["another number", { purpose: "a", tokens: 41 }],
    ["a number as text", { purpose: "a", tokens: "40" }],
    ["a member more", { purpose: "a", tokens: 40, more: null }],
    ["a member less", { purpose: "a" }],
    ["another purpose", { purpose: "b", tokens: 40 }],
    ["a list around it", [{ purpose: "a", tokens: 40 }]],
  ])("fail for %s", async (_name, value) => {
    const signature = await signer.sign({ purpose: "a", tokens: 40 });
    expect(await verifySignature(signer.publicKey, value, signature)).toBe(false);
  });

  test.each([
    ["no signature", (s: string) => s.slice(0, 0)],
    ["half a signature", (s: string) => s.slice(0, 43)],
    ["a signature with more behind it", (s: string) => `${s}AA`],
    ["what is not base64url", () => "!".repeat(86)],
  ])("%s is false, not an error", async (_name, spoil) => {
    const value = { purpose: "test" };
    const signature = spoil(await signer.sign(value));
    expect(await verifySignature(signer.publicKey, value, signature)).toBe(false);
  });

  test.each(["", "short", "!".repeat(43), `${"A".repeat(42)}==`, "A".repeat(86)])(
    "a key that is none is false, not an error: %j",
    async (key) => {
      expect(await verifySignature(key, { purpose: "test" }, await signer.sign({ purpose: "test" }))).toBe(
        false,
      );
    },
  );

  test("a value that cannot be signed is an error to its signer and false to others", async () => {
    await expect(async () => signer.sign({ purpose: "test", share: 0.5 })).rejects.toThrow(
      "only safe integers",
    );
    const signature = await signer.sign({ purpose: "test" });
    expect(await verifySignature(signer.publicKey, { purpose: "test", share: 0.5 }, signature)).toBe(false);
  });

  test("are plain Ed25519 (RFC 8032) over the canonical bytes", async () => {
    const value = { purpose: "test", list: [1, "x", null] };
    const jwk = { kty: "OKP", crv: "Ed25519", x: pair.publicKey };
    const key = createPublicKey({ key: jwk, format: "jwk" });
    const signature = fromBase64Url(await signer.sign(value));
    expect(nodeVerify(null, canonicalBytes(value), key, signature)).toBe(true);
    const secret = createPrivateKey({
      key: Buffer.from(pair.privateKey, "base64url"),
      format: "der",
      type: "pkcs8",
    });
    expect(createPublicKey(secret).export({ format: "jwk" }).x).toBe(pair.publicKey);
  });

  test("come out the same for RFC 8032's second key, on every platform", async () => {
    // TEST 2 of RFC 8032, section 7.1: a seed and its public key.
    const seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const publicKey = Buffer.from("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "hex");
    const privateKey = Buffer.from(`302e020100300506032b657004220420${seed}`, "hex").toString("base64url");
    const known = await createSigner({ publicKey: publicKey.toString("base64url"), privateKey });
    const signature = await known.sign({ purpose: "test" });
    expect(await known.sign({ purpose: "test" })).toBe(signature);
    expect(await verifySignature(known.publicKey, { purpose: "test" }, signature)).toBe(true);
    // The RFC's own signature, over the one byte 0x72: our verifier's primitive agrees with it.
    const rfc =
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: known.publicKey }, format: "jwk" });
    expect(nodeVerify(null, new Uint8Array([0x72]), key, Buffer.from(rfc, "hex"))).toBe(true);
  });

  test("a signer does not show its private key", () => {
    expect(JSON.stringify(signer)).toBe(JSON.stringify({ publicKey: signer.publicKey }));
  });
});

describe("base64url", () => {
  test("any bytes come back as they were, without padding or signs that an address would change", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const text = toBase64Url(bytes);
        expect(text).toMatch(/^[A-Za-z0-9_-]*$/);
        expect(fromBase64Url(text)).toEqual(bytes);
      }),
    );
  });

  test("random tokens have the bytes asked for and do not repeat", () => {
    const tokens = Array.from({ length: 1000 }, () => randomToken(16));
    expect(new Set(tokens).size).toBe(1000);
    expect(fromBase64Url(tokens[0]!).byteLength).toBe(16);
  });
});
