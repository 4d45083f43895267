/** Signs what `npm run build:agents` made, and puts the installers beside it. */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatMinisign, MANIFEST_NAME, type ReleaseManifest, releaseManifestSchema } from "@gfe/protocol";
import type { ReleaseKey } from "./keys.ts";

const INSTALLERS = ["install.sh", "install.ps1"] as const;
const TEMPLATES = new URL("../install/", import.meta.url);
const DAY_S = 86_400;

export interface SignOptions {
  directory: string;
  key: ReleaseKey;
  /** Seconds since 1970. */
  nowS: number;
  /** After so long agents take the release for withdrawn: sign it anew before. */
  expiresDays: number;
}

/**
 * Signs the manifest, the sums and every file that they name. What does not fit its sum in the manifest is not signed: throws
 * with its name, and nothing was written then. Returns the names of all signed files.
 */
export function signRelease({ directory, key, nowS, expiresDays }: SignOptions): string[] {
  const bytes = (name: string) => readFileSync(join(directory, name));
  const manifest: ReleaseManifest = releaseManifestSchema.parse(JSON.parse(bytes(MANIFEST_NAME).toString()));
  const sums = new Map(manifest.files.map(({ name, sha256 }) => [name, sha256]));
  for (const line of bytes("SHA256SUMS").toString().split("\n").filter(Boolean)) {
    const [sum = "", name = ""] = line.split("  ");
    if (sums.has(name) && sums.get(name) !== sum)
      throw new Error(`SHA256SUMS and manifest.json disagree on ${name}`);
    sums.set(name, sum);
  }
  for (const [name, sum] of sums) {
    const found = existsSync(join(directory, name))
      ? createHash("sha256").update(bytes(name)).digest("hex")
      : "absent";
    if (found !== sum) throw new Error(`${name} is not what manifest.json says: build anew before signing`);
  }
  const publicLine = key.publicFile.trim().split("\n")[1]!;
  for (const name of INSTALLERS) {
    const text = readFileSync(new URL(name, TEMPLATES), "utf8").replaceAll("@RELEASE_KEY@", publicLine);
    writeFileSync(join(directory, name), text);
    chmodSync(join(directory, name), 0o755);
  }
  writeFileSync(join(directory, "minisign.pub"), key.publicFile);
  const signed = [...sums.keys(), "SHA256SUMS", ...INSTALLERS, MANIFEST_NAME];
  for (const name of signed) {
    const comment = [
      `timestamp:${nowS}`,
      `file:${name}`,
      "hashed",
      `version:${manifest.version}`,
      `expires:${nowS + expiresDays * DAY_S}`,
    ].join("\t");
    const hash = createHash("blake2b512").update(bytes(name)).digest();
    writeFileSync(join(directory, `${name}.minisig`), formatMinisign(key.keyId, key.sign, hash, comment));
  }
  return signed;
}
