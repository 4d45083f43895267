/** Brings a model to this machine: finds it, loads it, checks it, notes where it came from. */
import type { Host } from "../host.ts";
import { type DownloadHost, download, type Progress } from "./download.ts";
import { type LibraryHost, listModels, modelsDirectory, readRecord, writeRecord } from "./library.ts";
import { ModelProblem } from "./problem.ts";
import { findModel } from "./repository.ts";
import { modelHost, parseSource } from "./source.ts";

export type PullHost = DownloadHost & LibraryHost & Pick<Host, "after">;

export type PullEvent =
  | { type: "found"; name: string; bytes: number | null; files: number }
  | ({ type: "progress"; name: string } & Progress)
  | { type: "retry"; reason: string; waitMs: number }
  | { type: "checking"; name: string }
  /** `checked`: whether what came was compared with a digest. */
  | { type: "done"; name: string; path: string; bytes: number; checked: boolean; wasThere: boolean };

export interface PullOptions {
  source: string;
  /** Instead of the file's. */
  name?: string;
  /** 64 hex digits. */
  sha256?: string;
  signal?: AbortSignal;
  onEvent?(event: PullEvent): void;
}

/** Rejects with ModelProblem. What has come of a broken-off download is kept and gone on with. */
export async function pullModel(host: PullHost, options: PullOptions): Promise<string> {
  const { source, signal, onEvent = () => {} } = options;
  const sha256 = options.sha256?.toLowerCase().replace(/^sha256:/, "");
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/.test(sha256))
    throw new ModelProblem("a SHA-256 has 64 digits from 0 to f");
  if (options.name !== undefined && !/^\w[\w.+-]{0,99}$/.test(options.name))
    throw new ModelProblem(`"${options.name}" is no name for a model: letters, digits, . _ + and - are`);
  const modelHostAddress = modelHost(host.env);
  const token = host.env.HF_TOKEN || undefined;
  const wanted = parseSource(source, modelHostAddress);
  const found = await findModel(host, wanted, {
    host: modelHostAddress,
    ...(token && wanted.type === "repo" ? { token } : {}),
    ...(signal ? { signal } : {}),
  });
  const name = options.name ?? found.name;
  const files = found.files.map((file) => ({
    ...file,
    ...(options.name === undefined ? {} : { name: file.name.replace(found.name, options.name) }),
    ...(sha256 === undefined || found.files.length > 1 ? {} : { sha256 }),
  }));
  if (sha256 !== undefined && files.length > 1)
    throw new ModelProblem(`${found.name} has ${files.length} files, of which each has a SHA-256 of its own`);
  const directory = modelsDirectory(host);
  const identity =
    wanted.type === "url"
      ? wanted.url
      : `${wanted.repo}@${wanted.revision}/${files[0]!.url.split("/").at(-1)}`;
  const before = (await listModels(host)).find((model) => model.name === name);
  if (before && before.source !== null && before.source !== identity)
    throw new ModelProblem(
      `there is a model ${name} from ${before.source}: give this one another name with --name, or remove that one with gfe model rm ${name}`,
    );
  await host.files.makeDirectory(directory, 0o755);
  const sizes = files.map(({ bytes }) => bytes ?? null);
  const bytes = sizes.every((size) => size !== null) ? sizes.reduce((sum, size) => sum + size, 0) : null;
  onEvent({ type: "found", name, bytes, files: files.length });
  const known = before ? await readRecord(host, name) : null;
  const loaded: { name: string; bytes: number; sha256: string | null }[] = [];
  let loadedNow = 0;
  for (const file of files) {
    const path = host.files.join(directory, file.name);
    const there = await host.files.facts(path);
    const kept = known?.files.find((one) => one.name === file.name);
    if (there && kept?.bytes === there.sizeBytes && (!file.sha256 || file.sha256 === kept.sha256)) {
      loaded.push(kept);
      continue;
    }
    if (there && !kept)
      throw new ModelProblem(
        `${path} is there already and was not pulled: remove it, or give another name with --name`,
      );
    loadedNow++;
    const already = loaded.reduce((sum, one) => sum + one.bytes, 0);
    const done = await download({
      ...{ host, file, path, page: found.page },
      ...(token && wanted.type === "repo" ? { token } : {}),
      ...(signal ? { signal } : {}),
      onProgress: (progress) =>
        onEvent({
          type: "progress",
          name,
          bytes: already + progress.bytes,
          total: bytes ?? (files.length === 1 ? progress.total : null),
        }),
      onRetry: (reason, waitMs) => onEvent({ type: "retry", reason, waitMs }),
      onChecking: () => onEvent({ type: "checking", name }),
    });
    loaded.push({ name: file.name, ...done });
  }
  await writeRecord(host, name, {
    source: identity,
    files: loaded,
    pulled_at: new Date(host.nowMs()).toISOString(),
  });
  const path = host.files.join(directory, files[0]!.name);
  onEvent({
    ...{ type: "done", name, path, bytes: loaded.reduce((sum, one) => sum + one.bytes, 0) },
    ...{ checked: loaded.every((one) => one.sha256 !== null), wasThere: loadedNow === 0 },
  });
  return path;
}
