/** SHA-256 of model files, remembered by path, size and time of change: hashing 40 GB at every start is no option. */
import { z } from "zod";
import { parseJson } from "../body.ts";
import { delay, type FileFacts, type Host } from "../host.ts";

export const CACHE_FILE = "digests.json";
const ENTRIES_MAX = 1000;
const cacheSchema = z.record(
  z.string(),
  z.object({ size: z.number(), modified_ms: z.number(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
);

/** `sha256:…` of a file; `facts` are its present ones. */
export async function digestOfFile(
  { files, directories }: Pick<Host, "files" | "directories">,
  path: string,
  facts: FileFacts,
): Promise<string> {
  const cachePath = files.join(directories.state, CACHE_FILE);
  const bytes = await files.read(cachePath);
  const cache = cacheSchema.safeParse(bytes && parseJson(new TextDecoder().decode(bytes))).data ?? {};
  const known = cache[path];
  if (known?.size === facts.sizeBytes && known.modified_ms === facts.modifiedMs)
    return `sha256:${known.sha256}`;
  const sha256 = await files.sha256(path);
  const kept = Object.entries(cache).slice(-ENTRIES_MAX);
  const entry = { size: facts.sizeBytes, modified_ms: facts.modifiedMs, sha256 };
  await files.makeDirectory(directories.state, 0o700);
  await files.write(cachePath, JSON.stringify({ ...Object.fromEntries(kept), [path]: entry }), {
    mode: 0o600,
  });
  return `sha256:${sha256}`;
}

/** Hashing goes on behind the announcement of a model whose file takes longer: the next look tells it. */
const DIGEST_WAIT_MS = 2_000;

/** Digests of files that another program serves; null where there is no such file here, or while it is still hashed. */
export function createDigests(
  host: Pick<Host, "files" | "directories" | "after">,
): (path: string) => Promise<string | null> {
  const begun = new Map<string, Promise<string | null>>();
  return async (path) => {
    const facts = await host.files.facts(path).catch(() => null);
    if (!facts) return null;
    const key = `${path} ${facts.sizeBytes} ${facts.modifiedMs}`;
    const hashing = begun.get(key) ?? digestOfFile(host, path, facts).catch(() => null);
    begun.set(key, hashing);
    const over = new AbortController();
    const tooLong = delay(host, DIGEST_WAIT_MS, over.signal).then(
      () => null,
      () => null,
    );
    return Promise.race([hashing, tooLong]).finally(() => over.abort());
  };
}
