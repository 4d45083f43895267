/** Which file of a model host's repository is meant, and what it is: its size and its SHA-256. */
import { z } from "zod";
import { readJson } from "../body.ts";
import { quantisationOf } from "../engines/describe/known.ts";
import { type Host, limitedSignal } from "../host.ts";
import { MODEL_LIMITS } from "../limits.ts";
import { ModelProblem } from "./problem.ts";
import { type Fetched, follow, refusalOf } from "./requests.ts";
import type { ModelSource } from "./source.ts";

/** A file to load; large models come in several parts. */
export interface RemoteFile {
  /** Its name here. */
  name: string;
  url: string;
  bytes?: number;
  sha256?: string;
}

export interface RemoteModel {
  /** The files' common name without ending. */
  name: string;
  files: RemoteFile[];
  /** Where a person reads about it and accepts its terms; null for a plain address. */
  page: string | null;
}

const treeSchema = z.array(
  z.object({
    type: z.string(),
    path: z.string(),
    size: z.number().optional(),
    lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.number() }).nullish(),
  }),
);
type Entry = z.infer<typeof treeSchema>[number];

/** Taken where no quantisation is named, the first that there is: small loss of quality at half a byte a weight. */
const PREFERRED = [
  "Q4_K_M",
  "UD-Q4_K_XL",
  "Q4_K_S",
  "Q4_0",
  "MXFP4",
  "Q5_K_M",
  "Q6_K",
  "Q8_0",
  "F16",
  "BF16",
];
const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;

/** Rejects with ModelProblem. */
export async function findModel(
  host: Pick<Host, "http" | "after">,
  source: ModelSource,
  options: { host: string; token?: string; signal?: AbortSignal },
): Promise<RemoteModel> {
  if (source.type === "url") {
    const name = decodeURIComponent(new URL(source.url).pathname.replace(/^.*\//, ""));
    if (!/\.gguf$/i.test(name))
      throw new ModelProblem(`${source.url} is no .gguf file, which is what the built-in engine runs`);
    return { name: baseOf(name), files: [{ name: safeName(name), url: source.url }], page: null };
  }
  const page = `${options.host}/${source.repo}`;
  const entries = await listFiles(host, source, page, options);
  const chosen = choose(entries, source, page);
  return {
    name: baseOf(chosen[0]!.path),
    files: chosen.map(({ path, size, lfs }) => ({
      name: safeName(path),
      url: `${page}/resolve/${encodeURIComponent(source.revision)}/${path.split("/").map(encodeURIComponent).join("/")}`,
      ...((lfs?.size ?? size) === undefined ? {} : { bytes: lfs?.size ?? size! }),
      ...(lfs ? { sha256: lfs.oid } : {}),
    })),
    page,
  };
}

async function listFiles(
  host: Pick<Host, "http" | "after">,
  { repo, revision }: Extract<ModelSource, { type: "repo" }>,
  page: string,
  options: { host: string; token?: string; signal?: AbortSignal },
): Promise<Entry[]> {
  const entries: Entry[] = [];
  let url: string | null =
    `${options.host}/api/models/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`;
  for (let pages = 0; url !== null && pages < MODEL_LIMITS.treePages; pages++) {
    const { signal, release } = limitedSignal(host, MODEL_LIMITS.inquiryMs, options.signal);
    try {
      const { token } = options;
      const { response }: Fetched = await follow(host, url, {
        headers: {},
        signal,
        ...(token ? { token } : {}),
      }).catch((cause: unknown) => {
        if (cause instanceof ModelProblem) throw cause;
        throw new ModelProblem(`${new URL(options.host).host} can't be reached: is there a connection?`, {
          cause,
        });
      });
      if (response.status !== 200) {
        response.cancel();
        throw refusalOf(response, url, page, token !== undefined);
      }
      const read = treeSchema.safeParse(await readJson(response, MODEL_LIMITS.treeBytes)).data;
      if (!read)
        throw new ModelProblem(
          `${new URL(options.host).host} lists the files of ${repo} in no way that is known`,
        );
      entries.push(...read);
      const next: string | undefined = /<([^>]+)>;\s*rel="next"/.exec(response.header("link") ?? "")?.[1];
      url = next === undefined ? null : new URL(next, url).href;
      if (url !== null && new URL(url).origin !== new URL(options.host).origin)
        throw new ModelProblem(
          `${new URL(options.host).host} goes on with its list at another server: not followed`,
        );
    } finally {
      release();
    }
  }
  return entries;
}

/** The file, or all parts of it. Pure. */
export function choose(
  entries: readonly Entry[],
  { file, quantisation, repo }: Extract<ModelSource, { type: "repo" }>,
  page: string,
): [Entry, ...Entry[]] {
  const all = entries.filter(({ type, path }) => type === "file" && /\.gguf$/i.test(path));
  // What lets a model see is a file of its own, and no model.
  const models = all.filter(({ path }) => !/(^|\/)mmproj/i.test(path));
  if (models.length === 0)
    throw new ModelProblem(
      `${repo} has no .gguf file, which is what the built-in engine runs: look for a repository whose name ends in -GGUF`,
    );
  if (file !== undefined) {
    const named = all.find(({ path }) => path === file) ?? all.find(({ path }) => path.endsWith(`/${file}`));
    if (!named) throw new ModelProblem(`${repo} has no file ${file}: see ${page}`);
    return withParts(named, all);
  }
  const firsts = models.filter(({ path }) => (PART.exec(path)?.[1] ?? "00001") === "00001");
  const byQuantisation = new Map<string, Entry[]>();
  for (const entry of firsts) {
    const key = quantisationIn(entry.path);
    byQuantisation.set(key, [...(byQuantisation.get(key) ?? []), entry]);
  }
  const wanted =
    quantisation?.toUpperCase() ??
    (firsts.length === 1
      ? quantisationIn(firsts[0]!.path)
      : PREFERRED.find((one) => byQuantisation.has(one)));
  const found = wanted === undefined ? undefined : byQuantisation.get(wanted);
  const there = [...byQuantisation.keys()].filter(Boolean).join(", ");
  if (!found)
    throw new ModelProblem(
      wanted === undefined || quantisation === undefined
        ? `${repo} has several models: say which, such as ${repo}:${[...byQuantisation.keys()][0]}. There are ${there}`
        : `${repo} has no ${quantisation}. There are ${there}`,
    );
  if (found.length > 1)
    throw new ModelProblem(
      `${repo} has several files of ${wanted}: name one, such as ${repo}:${found[0]!.path}. There are ${found.map(({ path }) => path).join(", ")}`,
    );
  return withParts(found[0]!, models);
}

const quantisationIn = (path: string): string =>
  quantisationOf(path.replace(PART, ".gguf").replace(/^.*\//, "")).quantisation?.toUpperCase() ?? "";

function withParts(first: Entry, all: readonly Entry[]): [Entry, ...Entry[]] {
  const part = PART.exec(first.path);
  if (!part) return [first];
  const stem = first.path.slice(0, part.index);
  const parts = all
    .filter(({ path }) => path.startsWith(`${stem}-`) && PART.exec(path)?.[2] === part[2])
    .toSorted((a, b) => (a.path < b.path ? -1 : 1));
  if (parts.length !== Number(part[2]))
    throw new ModelProblem(`of ${first.path} there are ${parts.length} parts of ${Number(part[2])}`);
  return parts as [Entry, ...Entry[]];
}

/** A name that is a file's name anywhere, and leads nowhere else. */
const safeName = (path: string): string =>
  path
    .replace(/^.*[\\/]/, "")
    .replace(/[^\w.+-]+/g, "-")
    .replace(/^[.-]+/, "") || "model.gguf";

/** `qwen3-8b-Q4_K_M` of `some/folder/qwen3-8b-Q4_K_M-00001-of-00003.gguf` */
const baseOf = (path: string): string =>
  safeName(path)
    .replace(PART, "")
    .replace(/\.gguf$/i, "");
