/**
 * The model files of this machine: a folder with `NAME.gguf` (or its parts) and `NAME.json`, which tells where they came
 * from. A .gguf file that somebody put there counts too.
 */
import { z } from "zod";
import { parseJson } from "../body.ts";
import { quantisationOf } from "../engines/describe/known.ts";
import type { Host } from "../host.ts";
import { ModelProblem } from "./problem.ts";

export type LibraryHost = Pick<Host, "files" | "env" | "platform">;

const recordSchema = z.object({
  source: z.string(),
  files: z.array(z.object({ name: z.string(), bytes: z.number(), sha256: z.string().nullable() })).min(1),
  pulled_at: z.string(),
});
export type ModelRecord = z.infer<typeof recordSchema>;

export interface LocalModel {
  name: string;
  /** Of its first part, which is what an engine is given. */
  path: string;
  bytes: number;
  quantisation: string | null;
  /** Null for a file that somebody put there. */
  source: string | null;
  pulledAt: string | null;
  sha256: string | null;
}

const PART = /-(\d{5})-of-\d{5}\.gguf$/i;
const isFileName = (name: string): boolean => /^[\w.+-]+$/.test(name) && !name.startsWith(".");

/** GFE_MODELS_DIR, else where the system keeps a user's data. Throws ModelProblem where no home is known. */
export function modelsDirectory({ env, files, platform }: LibraryHost): string {
  if (env.GFE_MODELS_DIR) return env.GFE_MODELS_DIR;
  if (env.XDG_DATA_HOME) return files.join(env.XDG_DATA_HOME, "gfe", "models");
  if (platform === "win32" && env.LOCALAPPDATA) return files.join(env.LOCALAPPDATA, "gfe", "models");
  const home = env.HOME || env.USERPROFILE;
  if (!home) throw new ModelProblem("there is no home directory to keep models in: set GFE_MODELS_DIR");
  return files.join(home, ".local", "share", "gfe", "models");
}

/** By name. */
export async function listModels(host: LibraryHost): Promise<LocalModel[]> {
  const directory = modelsDirectory(host);
  const names = new Set(await host.files.list(directory));
  const found: LocalModel[] = [];
  for (const file of names) {
    if (!/\.gguf$/i.test(file) || (PART.exec(file)?.[1] ?? "00001") !== "00001") continue;
    const path = host.files.join(directory, file);
    const facts = await host.files.facts(path);
    if (!facts) continue;
    const name = file.replace(PART, "").replace(/\.gguf$/i, "");
    const record = names.has(`${name}.json`) ? await readRecord(host, name) : null;
    found.push({
      ...{ name, path },
      bytes: record?.files.reduce((sum, { bytes }) => sum + bytes, 0) ?? facts.sizeBytes,
      quantisation: quantisationOf(name).quantisation ?? null,
      source: record?.source ?? null,
      pulledAt: record?.pulled_at ?? null,
      sha256: record?.files.length === 1 ? record.files[0]!.sha256 : null,
    });
  }
  return found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The model of this name. Rejects with ModelProblem that names those there are. */
export async function modelNamed(host: LibraryHost, name: string): Promise<LocalModel> {
  const all = await listModels(host);
  const wanted = name.replace(/\.gguf$/i, "").toLowerCase();
  const model =
    all.find((one) => one.name === name) ??
    all.find((one) => one.name.toLowerCase() === wanted) ??
    all.find((one) => one.source?.toLowerCase() === wanted);
  if (model) return model;
  const there = all.map((one) => one.name).join(", ");
  throw new ModelProblem(
    there === ""
      ? `there is no model ${name}, nor any other: gfe model pull brings one`
      : `there is no model ${name}. There are ${there}`,
  );
}

export async function readRecord(host: LibraryHost, name: string): Promise<ModelRecord | null> {
  const bytes = await host.files.read(host.files.join(modelsDirectory(host), `${name}.json`));
  return recordSchema.safeParse(bytes && parseJson(new TextDecoder().decode(bytes))).data ?? null;
}

export async function writeRecord(host: LibraryHost, name: string, record: ModelRecord): Promise<void> {
  const path = host.files.join(modelsDirectory(host), `${name}.json`);
  await host.files.write(path, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}

/** Removes a model, its parts, and what a broken-off download of it left; gives the bytes that became free. */
export async function removeModel(host: LibraryHost, { name, path }: LocalModel): Promise<number> {
  const directory = modelsDirectory(host);
  const record = await readRecord(host, name);
  const first = path.slice(directory.length).replace(/^[\\/]/, "");
  const names = new Set([first, ...(record?.files.map((file) => file.name) ?? [])]);
  let freed = 0;
  for (const file of names) {
    if (!isFileName(file)) continue;
    const whole = host.files.join(directory, file);
    for (const one of [whole, `${whole}.part`, `${whole}.part.json`]) {
      freed += (await host.files.facts(one))?.sizeBytes ?? 0;
      await host.files.remove(one);
    }
  }
  await host.files.remove(host.files.join(directory, `${name}.json`));
  return freed;
}

/** The paths of all that pulls made here, whole or not; files that somebody put there are not among them. */
export async function pulledFiles(host: LibraryHost): Promise<string[]> {
  const directory = modelsDirectory(host);
  const names = new Set(await host.files.list(directory));
  const made = [...names].filter((name) => /\.gguf\.part(\.json)?$/.test(name));
  for (const { name, source } of await listModels(host)) {
    const record = source === null ? null : await readRecord(host, name);
    if (record)
      made.push(`${name}.json`, ...record.files.map((file) => file.name).filter((file) => names.has(file)));
  }
  return made.map((name) => host.files.join(directory, name));
}

/** What broken-off downloads left: their names and sizes. */
export async function listParts(host: LibraryHost): Promise<{ name: string; bytes: number }[]> {
  const directory = modelsDirectory(host);
  const parts = (await host.files.list(directory)).filter((name) => name.endsWith(".gguf.part"));
  return Promise.all(
    parts.toSorted().map(async (name) => ({
      name: name.slice(0, -".part".length),
      bytes: (await host.files.facts(host.files.join(directory, name)))?.sizeBytes ?? 0,
    })),
  );
}
