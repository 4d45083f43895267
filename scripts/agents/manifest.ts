/** What was built: sizes, sums, and whether each file is within its limit. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { type Arch, type Kind, LIMITS, type Os } from "./targets.ts";

const COMPRESS_MS = 900_000;

export interface BuiltFile {
  name: string;
  os: Os;
  arch: Arch;
  kind: Kind;
  bytes: number;
  /** Of `name.xz`. */
  compressed_bytes: number;
  sha256: string;
}

/** Compresses a file to `PATH.xz`, beside it, and says what it is. */
export async function describeFile(
  path: string,
  { os, arch, kind }: Pick<BuiltFile, "os" | "arch" | "kind">,
): Promise<BuiltFile> {
  const preset = `--lzma2=preset=${kind === "slim" ? "9e" : "9"}`;
  // Calls written with absolute addresses compress better; xz undoes it when it unpacks.
  const filters = arch === "x64" ? ["--x86", preset] : [preset];
  await promisify(execFile)("xz", ["--keep", "--force", ...filters, path], { timeout: COMPRESS_MS });
  return {
    name: basename(path),
    os,
    arch,
    kind,
    bytes: statSync(path).size,
    compressed_bytes: statSync(`${path}.xz`).size,
    sha256: sumOf(path),
  };
}

const sumOf = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

/** manifest.json and SHA256SUMS, which has the compressed files, too. */
export function writeManifest(directory: string, version: string, files: readonly BuiltFile[]): void {
  writeFileSync(join(directory, "manifest.json"), `${JSON.stringify({ version, files }, null, 2)}\n`);
  const sums = files.flatMap(({ name, sha256 }) => [
    `${sha256}  ${name}`,
    `${sumOf(join(directory, `${name}.xz`))}  ${name}.xz`,
  ]);
  writeFileSync(join(directory, "SHA256SUMS"), `${sums.join("\n")}\n`);
}

/** In words, which files are above their limits; none is right. */
export function tooLarge(
  files: readonly Pick<BuiltFile, "name" | "kind" | "bytes" | "compressed_bytes">[],
): string[] {
  return files.flatMap(({ name, kind, bytes, compressed_bytes }) => {
    const limit = LIMITS[kind];
    return [
      ...(bytes > limit.bytes ? [`${name} has ${mb(bytes)}, above ${mb(limit.bytes)}`] : []),
      ...(compressed_bytes > limit.compressedBytes
        ? [`${name}.xz has ${mb(compressed_bytes)}, above ${mb(limit.compressedBytes)}`]
        : []),
    ];
  });
}

/** A Markdown table. */
export function fileTable(files: readonly BuiltFile[]): string {
  const rows = files.map(({ name, bytes, compressed_bytes }) => [name, mb(bytes), mb(compressed_bytes)]);
  const all = [["file", "on disk", "to download (xz)"], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (row: string[]) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = `| ${"-".repeat(widths[0]!)} | ${"-".repeat(widths[1]! - 1)}: | ${"-".repeat(widths[2]! - 1)}: |`;
  return [line(all[0]!), rule, ...rows.map(line)].join("\n");
}

const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
