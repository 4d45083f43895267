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
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Throws on anything that is not base64url. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
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
    const key = await crypto.subtle.importKey("raw", fromBase64Url(publicKey), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, fromBase64Url(signature), canonicalBytes(value));
  } catch {
    return false;
  }
}

/** Random bytes as base64url: nonces and secrets. */
export function randomToken(byteCount: number): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(byteCount)));
}
