/**
 * Keys that sign releases, in minisign's own file format without a password, so that minisign reads them too:
 * "Ed" ‖ no KDF ‖ "B2" ‖ 48 unused bytes ‖ key id ‖ seed ‖ public key ‖ 32 bytes that only keys with a password use.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { concatenated, formatMinisignKey, fromBase64, toBase64 } from "@gfe/protocol";

const KEYS_AT = 6 + 48;
const SECRET_BYTES = KEYS_AT + 8 + 64 + 32;
/** What stands before a seed in PKCS#8 for Ed25519 (RFC 8410). */
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");
const text = (letters: string) => new TextEncoder().encode(letters);

export interface ReleaseKey {
  keyId: Uint8Array;
  /** The content of its `.pub` file. */
  publicFile: string;
  sign(bytes: Uint8Array): Uint8Array;
}

/** Makes a key in `path`, which must not exist, mode 0600, and its public half in `path.pub`. */
export function makeReleaseKey(path: string): ReleaseKey {
  const { privateKey } = generateKeyPairSync("ed25519");
  const jwk = privateKey.export({ format: "jwk" });
  const keyId = randomBytes(8);
  const keys = concatenated(keyId, Buffer.from(jwk.d!, "base64url"), Buffer.from(jwk.x!, "base64url"));
  const secret = concatenated(text("Ed\0\0B2"), new Uint8Array(48), keys, new Uint8Array(32));
  writeFileSync(path, `untrusted comment: minisign secret key, without a password\n${toBase64(secret)}\n`, {
    mode: 0o600,
    flag: "wx",
  });
  const key = readReleaseKey(path);
  writeFileSync(`${path}.pub`, key.publicFile);
  return key;
}

/** Throws with words for who signs where the file is no key, or one with a password. */
export function readReleaseKey(path: string): ReleaseKey {
  const bytes = fromBase64(readFileSync(path, "utf8").trim().split(/\r?\n/)[1] ?? "");
  if (bytes?.byteLength !== SECRET_BYTES || Buffer.from(bytes.subarray(0, 2)).toString() !== "Ed")
    throw new Error(`${path} is not a minisign secret key`);
  if (bytes[2] !== 0 || bytes[3] !== 0)
    throw new Error(`${path} has a password: make a copy without it by \`minisign -C -W -s ${path}\``);
  const keys = bytes.subarray(KEYS_AT, KEYS_AT + 72);
  const keyId = keys.slice(0, 8);
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8, keys.subarray(8, 40)]),
    format: "der",
    type: "pkcs8",
  });
  const publicKey = Buffer.from(createPublicKey(key).export({ format: "jwk" }).x!, "base64url");
  if (!publicKey.equals(keys.subarray(40))) throw new Error(`${path} is damaged: its halves do not fit`);
  return { keyId, publicFile: formatMinisignKey(keyId, publicKey), sign: (data) => sign(null, data, key) };
}
