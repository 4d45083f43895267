/** Releases of the agent: what there is to download, and how a version is judged newer. */
import { z } from "zod";
import { type MinisignKey, trustedFields, verifyMinisign } from "./minisign.ts";

/** Names are taken as they are for paths and addresses: nothing in them leads elsewhere. */
const fileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/);
const VERSION = /^(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:-([0-9A-Za-z.-]{1,40}))?$/;

export const releaseFileSchema = z.object({
  name: fileName,
  os: z.enum(["linux", "windows", "macos"]),
  arch: z.enum(["x64", "arm64"]),
  /** `slim`: the agent alone, on a small native host. `full`: with the consumer's commands, on a whole JavaScript runtime. */
  kind: z.enum(["slim", "full"]),
  bytes: z.int().min(1),
  compressed_bytes: z.int().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export const releaseManifestSchema = z.object({
  version: z.string().regex(VERSION),
  files: z.array(releaseFileSchema).max(100),
});
export type ReleaseFile = z.infer<typeof releaseFileSchema>;
export type ReleaseManifest = z.infer<typeof releaseManifestSchema>;

export const RELEASE_LIMITS = {
  manifestBytes: 256 * 1024,
  signatureBytes: 4 * 1024,
  fileBytes: 200 * 1024 * 1024,
} as const;
export const MANIFEST_NAME = "manifest.json";

export type ReleaseVerdict =
  | { ok: true; manifest: ReleaseManifest; signedAtS: number; expiresAtS: number }
  | { ok: false; reason: string };

/**
 * What a manifest says, if `key` signed it as one, for its version, and it has not expired. The time of signing and the expiry
 * are in the trusted comment: an old manifest, replayed, is told by them.
 */
export async function verifyRelease(
  key: MinisignKey,
  manifest: Uint8Array<ArrayBuffer>,
  signature: string,
  nowS: number,
): Promise<ReleaseVerdict> {
  const refused = (reason: string): ReleaseVerdict => ({ ok: false, reason });
  const verdict = await verifyMinisign(key, manifest, signature);
  if (!verdict.ok)
    return refused(
      {
        malformed: "its signature is not readable",
        other_key: "it is signed with another key than this program trusts",
        forged: "its signature does not fit: it was changed after it was signed",
      }[verdict.reason],
    );
  const fields = trustedFields(verdict.trustedComment);
  const [signedAtS, expiresAtS] = ["timestamp", "expires"].map((name) => Number(fields.get(name) ?? "NaN"));
  if (fields.get("file") !== MANIFEST_NAME) return refused("what was signed is another file");
  if (!Number.isSafeInteger(signedAtS) || !Number.isSafeInteger(expiresAtS))
    return refused("its signature does not say when it was made and how long it holds");
  const parsed = releaseManifestSchema.safeParse(parseJson(manifest));
  if (!parsed.success)
    return refused(`it is not readable: ${parsed.error.issues[0]?.path.join(".") || "JSON"}`);
  if (fields.get("version") !== parsed.data.version) return refused("it was signed for another version");
  if (expiresAtS! <= nowS)
    return refused(`its signature ended on ${new Date(expiresAtS! * 1000).toISOString().slice(0, 10)}`);
  return { ok: true, manifest: parsed.data, signedAtS: signedAtS!, expiresAtS: expiresAtS! };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

/**
 * Below zero where `a` is older than `b`, zero where neither is newer (semver.org, 11: a version with a suffix is older than
 * the same without). Versions that are none are older than all.
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [VERSION.exec(a), VERSION.exec(b)];
  if (!left || !right) return Number(left !== null) - Number(right !== null);
  for (let i = 1; i <= 3; i++) {
    const difference = Number(left[i]) - Number(right[i]);
    if (difference !== 0) return difference;
  }
  const [before, after] = [left[4], right[4]];
  if (before === undefined || after === undefined)
    return Number(before === undefined) - Number(after === undefined);
  return compareSuffixes(before.split("."), after.split("."));
}

function compareSuffixes(a: readonly string[], b: readonly string[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [left, right] = [a[i], b[i]];
    if (left === undefined || right === undefined) return left === undefined ? -1 : 1;
    if (left === right) continue;
    const [leftIsNumber, rightIsNumber] = [/^\d+$/.test(left), /^\d+$/.test(right)];
    if (leftIsNumber && rightIsNumber) return Number(left) - Number(right);
    if (leftIsNumber !== rightIsNumber) return leftIsNumber ? -1 : 1;
    return left < right ? -1 : 1;
  }
  return 0;
}
