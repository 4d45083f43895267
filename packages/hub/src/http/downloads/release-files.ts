/** The files of a release, as they lie in a directory: only what its manifest names, by exact names. */
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { MANIFEST_NAME, RELEASE_LIMITS, type ReleaseManifest, releaseManifestSchema } from "@gfe/protocol";

export const INSTALLERS = ["install.sh", "install.ps1"] as const;
/** Beside the programs, their compressed copies and the signatures. */
const OTHERS = [MANIFEST_NAME, "SHA256SUMS", "minisign.pub", ...INSTALLERS];

export interface OpenFile {
  handle: FileHandle;
  sizeBytes: number;
  /** SHA-256 where the manifest has it. */
  sha256: string | null;
  modifiedMs: number;
}

export interface ReleaseFiles {
  /** Null where there is no release, or none that was signed and can be read. */
  manifest(): Promise<ReleaseManifest | null>;
  /** Null for a name that is not of the release, and for one that is but does not lie there. The caller closes it. */
  open(name: string): Promise<OpenFile | null>;
}

/** Reads the manifest anew when it has changed: a release is put in place while hubs run. */
export function createReleaseFiles(directory: string): ReleaseFiles {
  let known: { stamp: string; manifest: ReleaseManifest | null } | null = null;

  async function manifest(): Promise<ReleaseManifest | null> {
    const path = join(directory, MANIFEST_NAME);
    const facts = await stat(path).catch(() => null);
    if (!facts?.isFile() || facts.size > RELEASE_LIMITS.manifestBytes) return null;
    // What was only built is nobody's to run.
    if (!(await stat(`${path}.minisig`).catch(() => null))?.isFile()) return null;
    const stamp = `${facts.mtimeMs} ${facts.size} ${facts.ino}`;
    if (known?.stamp !== stamp) known = { stamp, manifest: await read(path) };
    return known.manifest;
  }

  return {
    manifest,
    async open(name) {
      const release = await manifest();
      const plain = name.replace(/\.minisig$/, "");
      const file = release?.files.find((one) => one.name === plain || `${one.name}.xz` === plain);
      if (!release || !(file || OTHERS.includes(plain))) return null;
      // A link in this directory could lead anywhere.
      const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0);
      const handle = await open(join(directory, name), flags).catch(() => null);
      if (!handle) return null;
      const facts = await handle.stat();
      if (facts.isFile())
        return {
          handle,
          sizeBytes: facts.size,
          modifiedMs: facts.mtimeMs,
          sha256: file?.name === name ? file.sha256 : null,
        };
      await handle.close();
      return null;
    },
  };
}

async function read(path: string): Promise<ReleaseManifest | null> {
  const handle = await open(path, "r").catch(() => null);
  try {
    const text = await handle?.readFile("utf8");
    return releaseManifestSchema.safeParse(JSON.parse(text ?? "null")).data ?? null;
  } catch {
    return null;
  } finally {
    await handle?.close();
  }
}
