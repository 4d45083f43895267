/**
 * Ed25519 over canonical bytes (RFC 8785 restricted to what we sign: objects, arrays, strings, booleans, null and
 * safe integers; keys sorted by code unit). Every signed object has a `purpose`, so that a signature made for one
 * thing can never be shown as another. Keys and signatures travel as base64url without padding.
 */
export type Signable =
  | null
  | boolean
  | number
  | string
  | readonly Signable[]
  | { readonly [key: string]: Signable | undefined };

export interface KeyPair {
  publicKey: string;
  /** PKCS#8, base64url: secret. */
  privateKey: string;
}

export interface Signer {
  readonly publicKey: string;
  sign(value: Signable & { purpose: string }): Promise<string>;
}

const encoder = new TextEncoder();

interface NativeBuffer {
  from(bytes: ArrayBufferLike, offset: number, length: number): { toString(encoding: "base64url"): string };
  from(text: string, encoding: "base64url"): Uint8Array<ArrayBuffer>;
}

/** Node's own coding of base64url, many times as fast as one letter at a time. */
const buffer = (globalThis as { Buffer?: NativeBuffer }).Buffer;

interface NativeKey {
  readonly asymmetricKeyType?: string;
}
interface NativeCrypto {
  createPrivateKey(key: { key: Uint8Array; format: "der"; type: "pkcs8" }): NativeKey;
  createPublicKey(key: { key: object; format: "jwk" }): NativeKey;
  sign(algorithm: null, bytes: Uint8Array, key: NativeKey): Uint8Array;
  verify(algorithm: null, bytes: Uint8Array, key: NativeKey, signature: Uint8Array): boolean;
}

/**
 * Node's own Ed25519 where there is one. Web Crypto sends each call through a queue of threads and back, which costs
 * three times the signing itself and as much again as the checking; browsers have nothing else.
 */
const native = (
  globalThis as { process?: { getBuiltinModule?(name: string): unknown } }
).process?.getBuiltinModule?.("node:crypto") as NativeCrypto | undefined;

/** Imported public keys: a node signs many receipts with one. */
const PUBLIC_KEYS_KEPT = 4096;
const publicKeys = new Map<string, NativeKey>();

/** The one byte sequence that stands for `value`. Throws on floats and unsafe integers: they have no one spelling. */
export function canonicalBytes(value: Signable): Uint8Array<ArrayBuffer> {
  return encoder.encode(canonicalText(value));
}

function canonicalText(value: Signable): string {
  if (typeof value === "number" && !Number.isSafeInteger(value))
    throw new Error("only safe integers can be signed");
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  const record = value as { readonly [key: string]: Signable | undefined };
  const parts: string[] = [];
  for (const key of Object.keys(record).sort()) {
    const member = record[key];
    if (member !== undefined) parts.push(`${JSON.stringify(key)}:${canonicalText(member)}`);
  }
  return `{${parts.join(",")}}`;
}

export function toBase64Url(bytes: Uint8Array): string {
  if (buffer) return buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

const BASE64URL = /^[A-Za-z0-9_-]*$/;
/** Of whole bytes without padding: 1 is left over of none. */
const CANONICAL_LENGTH: ReadonlySet<number> = new Set([0, 2, 3]);

/** Throws on anything that is not base64url. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  // What Node's leniency would pass over is left to the strict one, which says what it thinks of it.
  if (buffer && CANONICAL_LENGTH.has(text.length % 4) && BASE64URL.test(text))
    return new Uint8Array(buffer.from(text, "base64url"));
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

export async function generateKeyPair(): Promise<KeyPair> {
  const pair = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
  return {
    publicKey: toBase64Url(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey))),
    privateKey: toBase64Url(new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey))),
  };
}

/** A signer whose private key stays inside the closure. */
export async function createSigner(pair: KeyPair): Promise<Signer> {
  if (native) {
    const { sign } = native;
    const key = native.createPrivateKey({
      key: fromBase64Url(pair.privateKey),
      format: "der",
      type: "pkcs8",
    });
    return {
      publicKey: pair.publicKey,
      sign: async (value) => toBase64Url(sign(null, canonicalBytes(value), key)),
    };
  }
  const key = await crypto.subtle.importKey("pkcs8", fromBase64Url(pair.privateKey), "Ed25519", false, [
    "sign",
  ]);
  return {
    publicKey: pair.publicKey,
    async sign(value) {
      return toBase64Url(new Uint8Array(await crypto.subtle.sign("Ed25519", key, canonicalBytes(value))));
    },
  };
}

/** Whether `signature` over `value` was made by `publicKey`. Malformed input is simply false. */
export async function verifySignature(
  publicKey: string,
  value: Signable,
  signature: string,
): Promise<boolean> {
  try {
    return await verifyBytes(publicKey, canonicalBytes(value), fromBase64Url(signature));
  } catch {
    return false;
  }
}

/** The same for bytes that are signed as they are, by formats of others. Our own objects say their purpose instead. */
export async function verifyBytes(
  publicKey: string,
  bytes: Uint8Array<ArrayBuffer>,
  signature: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  try {
    if (native) return native.verify(null, bytes, nativeKey(native, publicKey), signature);
    const key = await crypto.subtle.importKey("raw", fromBase64Url(publicKey), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, signature, bytes);
  } catch {
    return false;
  }
}

function nativeKey({ createPublicKey }: NativeCrypto, publicKey: string): NativeKey {
  let key = publicKeys.get(publicKey);
  if (!key) {
    if (fromBase64Url(publicKey).byteLength !== 32) throw new Error("an Ed25519 key has 32 bytes");
    key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: publicKey }, format: "jwk" });
    if (publicKeys.size >= PUBLIC_KEYS_KEPT) publicKeys.delete(publicKeys.keys().next().value!);
    publicKeys.set(publicKey, key);
  }
  return key;
}

/** Random bytes as base64url: nonces and secrets. */
export function randomToken(byteCount: number): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(byteCount)));
}
