/**
 * Signatures of files in minisign's format, so that anybody can check them with minisign or OpenSSL as well:
 *
 *   untrusted comment: …                 (not signed, not shown)
 *   base64(algorithm ‖ key id ‖ Ed25519 signature of the file or of its BLAKE2b-512)
 *   trusted comment: …                   (signed)
 *   base64(Ed25519 signature of the first signature ‖ trusted comment)
 *
 * https://jedisct1.github.io/minisign/ describes it. Only what hashes first (`ED`) is made; both are checked.
 */
import { blake2b } from "./blake2b.ts";
import { toBase64Url, verifyBytes } from "./signing.ts";

const KEY_ID_BYTES = 8;
const PUBLIC_BYTES = 2 + KEY_ID_BYTES + 32;
const SIGNATURE_BYTES = 2 + KEY_ID_BYTES + 64;
/** A signature file is four short lines. */
const TEXT_CHARACTERS_MAX = 2_000;
const TRUSTED = "trusted comment: ";
const encoder = new TextEncoder();

export interface MinisignKey {
  /** As minisign prints it: 16 hex digits. */
  id: string;
  /** base64url, as every key of ours. */
  publicKey: string;
}

interface MinisignSignature {
  keyId: string;
  hashed: boolean;
  signature: Uint8Array<ArrayBuffer>;
  trustedComment: string;
  commentSignature: Uint8Array<ArrayBuffer>;
}

export type MinisignResult =
  | { ok: true; trustedComment: string }
  | { ok: false; reason: "malformed" | "other_key" | "forged" };

/** The key of `minisign.pub`, or of its second line alone. Null where it is none. */
export function parseMinisignKey(text: string): MinisignKey | null {
  const line = text
    .trim()
    .split(/\r?\n/)
    .find((one) => !one.startsWith("untrusted comment:"));
  const bytes = line === undefined ? null : fromBase64(line.trim());
  if (bytes?.byteLength !== PUBLIC_BYTES || letters(bytes) !== "Ed") return null;
  return { id: idText(bytes), publicKey: toBase64Url(bytes.subarray(2 + KEY_ID_BYTES)) };
}

/** Whether `text` is `key`'s signature of `file`; its trusted comment then. Nothing of what was not verified is told. */
export async function verifyMinisign(
  key: MinisignKey,
  file: Uint8Array<ArrayBuffer>,
  text: string,
): Promise<MinisignResult> {
  const parsed = parseSignature(text);
  if (!parsed) return { ok: false, reason: "malformed" };
  if (parsed.keyId !== key.id) return { ok: false, reason: "other_key" };
  const message = parsed.hashed ? blake2b(file) : file;
  const comment = concatenated(parsed.signature, encoder.encode(parsed.trustedComment));
  const fileIsSigned = await verifyBytes(key.publicKey, message, parsed.signature);
  const commentIsSigned = await verifyBytes(key.publicKey, comment, parsed.commentSignature);
  return fileIsSigned && commentIsSigned
    ? { ok: true, trustedComment: parsed.trustedComment }
    : { ok: false, reason: "forged" };
}

/** A signature file. `sign` makes a plain Ed25519 signature, `hash` is the file's BLAKE2b-512. */
export function formatMinisign(
  keyId: Uint8Array,
  sign: (bytes: Uint8Array) => Uint8Array,
  hash: Uint8Array,
  trustedComment: string,
): string {
  if (/[\r\n]/.test(trustedComment)) throw new Error("a trusted comment is one line");
  const signature = sign(hash);
  const whole = concatenated(encoder.encode("ED"), keyId, signature);
  const global = sign(concatenated(signature, encoder.encode(trustedComment)));
  return `untrusted comment: signature of a release of GPU For Everyone\n${toBase64(whole)}\n${TRUSTED}${trustedComment}\n${toBase64(global)}\n`;
}

/** A public key file. */
export function formatMinisignKey(keyId: Uint8Array, publicKey: Uint8Array): string {
  const bytes = concatenated(encoder.encode("Ed"), keyId, publicKey);
  return `untrusted comment: minisign public key ${idText(bytes)}\n${toBase64(bytes)}\n`;
}

/** `timestamp:1700000000\tfile:x` as pairs; what has no name is left out. */
export function trustedFields(comment: string): ReadonlyMap<string, string> {
  return new Map(
    comment.split("\t").flatMap((part) => {
      const colon = part.indexOf(":");
      return colon > 0 ? [[part.slice(0, colon), part.slice(colon + 1)] as const] : [];
    }),
  );
}

function parseSignature(text: string): MinisignSignature | null {
  if (text.length > TEXT_CHARACTERS_MAX) return null;
  const [untrusted, first, trusted, second, ...rest] = text.split(/\r?\n/);
  if (!untrusted?.startsWith("untrusted comment:") || !trusted?.startsWith(TRUSTED)) return null;
  if (rest.some((line) => line.trim() !== "")) return null;
  const bytes = fromBase64(first ?? "");
  const commentSignature = fromBase64(second ?? "");
  if (bytes?.byteLength !== SIGNATURE_BYTES || commentSignature?.byteLength !== 64) return null;
  const algorithm = letters(bytes);
  if (algorithm !== "ED" && algorithm !== "Ed") return null;
  return {
    keyId: idText(bytes),
    hashed: algorithm === "ED",
    signature: bytes.slice(2 + KEY_ID_BYTES),
    trustedComment: trusted.slice(TRUSTED.length),
    commentSignature,
  };
}

const letters = (bytes: Uint8Array): string => String.fromCharCode(bytes[0]!, bytes[1]!);

/** Little-endian, as minisign prints it. */
const idText = (bytes: Uint8Array): string =>
  [...bytes.subarray(2, 2 + KEY_ID_BYTES)]
    .reverse()
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("")
    .toUpperCase();

export function concatenated(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

export function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

/** Null for what is not base64, or spelt in another way than its one. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    return toBase64(bytes) === text ? bytes : null;
  } catch {
    return null;
  }
}
