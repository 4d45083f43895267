/**
 * Ad-hoc signatures for macOS executables, without a Mac: hashes of every page under no identity, as `codesign -s -` makes
 * them. Thin 64-bit Mach-O files only. Layouts: Apple's mach-o/loader.h and xnu's cs_blobs.h; a CodeDirectory is big endian
 * whatever the machine.
 */
import { createHash } from "node:crypto";

const MH_MAGIC_64 = 0xfeedfacf;
const HEADER_BYTES = 32;
const LC_SEGMENT_64 = 0x19;
const LC_CODE_SIGNATURE = 0x1d;
const SIGNATURE_COMMAND_BYTES = 16;

const SUPER_BLOB = 0xfade0cc0;
const CODE_DIRECTORY = 0xfade0c02;
const SUPER_BLOB_BYTES = 20;
const CODE_DIRECTORY_BYTES = 88;
const VERSION = 0x20400;
const FLAG_AD_HOC = 0x2;
const HASH_SHA256 = 2;
const HASH_BYTES = 32;
const PAGE_BITS = 12;
const PAGE_BYTES = 1 << PAGE_BITS;
const MAIN_BINARY = 1n;
const SEGMENT_ALIGN = 0x4000;

interface Layout {
  /** Of the file that the signature covers. */
  codeBytes: number;
  signatureAt: { command: number } | null;
  commandsEnd: number;
  /** The first byte that is no header: where load commands must end. */
  firstSection: number;
  linkEdit: number;
  textOffset: bigint;
  textBytes: bigint;
}

/** Whether it is a file that signMachO takes. */
export const isMachO = (file: Buffer): boolean =>
  file.length > HEADER_BYTES && file.readUInt32LE(0) === MH_MAGIC_64;

/** The file with an ad-hoc signature in place of whatever signature it had. Throws where it can't have one. */
export function signMachO(given: Buffer, identifier: string): Buffer {
  let file: Buffer = Buffer.from(given);
  let layout = layoutOf(file);
  if (!layout.signatureAt) {
    file = withSignatureCommand(file, layout);
    layout = layoutOf(file);
  }
  const { codeBytes, signatureAt, linkEdit } = layout;
  const size = signatureBytes(codeBytes, identifier);
  const command = signatureAt!.command;
  file.writeUInt32LE(codeBytes, command + 8);
  file.writeUInt32LE(size, command + 12);
  const linkEditOffset = Number(file.readBigUInt64LE(linkEdit + 40));
  const linkEditBytes = codeBytes + size - linkEditOffset;
  file.writeBigUInt64LE(BigInt(align(linkEditBytes, SEGMENT_ALIGN)), linkEdit + 32);
  file.writeBigUInt64LE(BigInt(linkEditBytes), linkEdit + 48);
  const code = file.subarray(0, codeBytes);
  return Buffer.concat([code, signature(code, identifier, layout, size)]);
}

/** What is wrong with a file's signature; null where every page is as it was signed. */
export function machOProblem(file: Buffer): string | null {
  const { signatureAt } = layoutOf(file);
  if (!signatureAt) return "it has no signature";
  const at = file.readUInt32LE(signatureAt.command + 8);
  const blob = file.subarray(at, at + file.readUInt32LE(signatureAt.command + 12));
  if (blob.length < SUPER_BLOB_BYTES || blob.readUInt32BE(0) !== SUPER_BLOB)
    return "its signature is no signature";
  const directory = blob.subarray(blob.readUInt32BE(16));
  if (directory.readUInt32BE(0) !== CODE_DIRECTORY) return "its signature has no code directory";
  const codeLimit = directory.readUInt32BE(32);
  const hashesAt = directory.readUInt32BE(16);
  const pageBytes = 1 << directory[39]!;
  if (directory[37] !== HASH_SHA256) return "its hashes are not SHA-256";
  if (codeLimit !== at) return "its signature does not cover all before it";
  if (directory.readUInt32BE(28) !== Math.ceil(codeLimit / pageBytes)) return "pages are missing";
  for (let page = 0; page * pageBytes < codeLimit; page++) {
    const bytes = file.subarray(page * pageBytes, Math.min((page + 1) * pageBytes, codeLimit));
    const hash = directory.subarray(hashesAt + page * HASH_BYTES, hashesAt + (page + 1) * HASH_BYTES);
    if (!sha256(bytes).equals(hash)) return `page ${page} is not as it was signed`;
  }
  return null;
}

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
const align = (value: number, to: number): number => Math.ceil(value / to) * to;

function layoutOf(file: Buffer): Layout {
  if (!isMachO(file)) throw new Error("this is no 64-bit Mach-O file");
  let linkEdit = 0;
  let signatureAt: Layout["signatureAt"] = null;
  let firstSection = Number.POSITIVE_INFINITY;
  let [textOffset, textBytes] = [0n, 0n];
  let at = HEADER_BYTES;
  for (let left = file.readUInt32LE(16); left > 0; left--) {
    const kind = file.readUInt32LE(at);
    if (kind === LC_CODE_SIGNATURE) signatureAt = { command: at };
    if (kind === LC_SEGMENT_64) {
      const name = file.toString("latin1", at + 8, at + 24).replace(/\0+$/, "");
      if (name === "__LINKEDIT") linkEdit = at;
      if (name === "__TEXT")
        [textOffset, textBytes] = [file.readBigUInt64LE(at + 40), file.readBigUInt64LE(at + 48)];
      for (let section = 0; section < file.readUInt32LE(at + 64); section++) {
        const offset = file.readUInt32LE(at + 72 + section * 80 + 48);
        if (offset > 0) firstSection = Math.min(firstSection, offset);
      }
    }
    at += file.readUInt32LE(at + 4);
  }
  if (linkEdit === 0) throw new Error("it has no __LINKEDIT, where a signature would go");
  const codeBytes = signatureAt ? file.readUInt32LE(signatureAt.command + 8) : align(file.length, 16);
  return { codeBytes, signatureAt, commandsEnd: at, firstSection, linkEdit, textOffset, textBytes };
}

/** Room for a signature that was not foreseen: a load command behind the others, the file's end aligned. */
function withSignatureCommand(file: Buffer, { commandsEnd, firstSection, codeBytes }: Layout): Buffer {
  if (commandsEnd + SIGNATURE_COMMAND_BYTES > firstSection)
    throw new Error("there is no room for a signature's load command");
  const grown = Buffer.concat([file, Buffer.alloc(codeBytes - file.length)]);
  grown.writeUInt32LE(LC_CODE_SIGNATURE, commandsEnd);
  grown.writeUInt32LE(SIGNATURE_COMMAND_BYTES, commandsEnd + 4);
  grown.writeUInt32LE(codeBytes, commandsEnd + 8);
  grown.writeUInt32LE(grown.readUInt32LE(16) + 1, 16);
  grown.writeUInt32LE(grown.readUInt32LE(20) + SIGNATURE_COMMAND_BYTES, 20);
  return grown;
}

const pagesOf = (codeBytes: number): number => Math.ceil(codeBytes / PAGE_BYTES);

const signatureBytes = (codeBytes: number, identifier: string): number =>
  align(
    SUPER_BLOB_BYTES + CODE_DIRECTORY_BYTES + identifier.length + 1 + pagesOf(codeBytes) * HASH_BYTES,
    16,
  );

function signature(code: Buffer, identifier: string, layout: Layout, size: number): Buffer {
  const blob = Buffer.alloc(size);
  const pages = pagesOf(code.length);
  const hashesAt = CODE_DIRECTORY_BYTES + identifier.length + 1;
  const directoryBytes = hashesAt + pages * HASH_BYTES;
  const words = (at: number, values: number[]) => {
    for (const [index, value] of values.entries()) blob.writeUInt32BE(value >>> 0, at + index * 4);
  };
  words(0, [SUPER_BLOB, SUPER_BLOB_BYTES + directoryBytes, 1, 0, SUPER_BLOB_BYTES]);
  const at = SUPER_BLOB_BYTES;
  words(at, [CODE_DIRECTORY, directoryBytes, VERSION, FLAG_AD_HOC, hashesAt, CODE_DIRECTORY_BYTES]);
  words(at + 24, [0, pages, code.length]); // no special slots
  blob.set([HASH_BYTES, HASH_SHA256, 0, PAGE_BITS], at + 36);
  // From 40 on: spare, scatter, team, spare, 64-bit limit: all none.
  blob.writeBigUInt64BE(layout.textOffset, at + 64);
  blob.writeBigUInt64BE(layout.textBytes, at + 72);
  blob.writeBigUInt64BE(MAIN_BINARY, at + 80);
  blob.write(identifier, at + CODE_DIRECTORY_BYTES, "latin1");
  for (let page = 0; page < pages; page++)
    blob.set(
      sha256(code.subarray(page * PAGE_BYTES, Math.min((page + 1) * PAGE_BYTES, code.length))),
      at + hashesAt + page * HASH_BYTES,
    );
  return blob;
}
