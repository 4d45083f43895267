/** Downloads a model file: resumed where it broke off, checked against its hash, shown as it goes. */
import { createHash } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Failure } from "../failure.ts";

export interface ModelFile {
  name: string;
  url: string;
  bytes: number;
  sha256: string;
  licence: string;
}

/** Qwen2.5 0.5B Instruct by Alibaba Cloud, quantised by its makers; the revision is pinned, so the hash is too. */
export const DEMO_MODEL: ModelFile = {
  name: "qwen2.5-0.5b-instruct-q4_k_m",
  url: "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/9217f5db79a29953eb74d5343926648285ec7e67/qwen2.5-0.5b-instruct-q4_k_m.gguf",
  bytes: 491_400_032,
  sha256: "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db",
  licence: "Apache-2.0",
};

const CONNECT_TIMEOUT_MS = 10_000;
const PROGRESS_MS = 100;

/** Resolves when the file is at `path`, whole and as it should be. What was loaded before a break is kept. */
export async function downloadModel(
  model: ModelFile,
  path: string,
  onProgress: (bytes: number) => void,
): Promise<void> {
  if (existsSync(path)) return;
  mkdirSync(dirname(path), { recursive: true });
  const part = `${path}.part`;
  const from = existsSync(part) ? statSync(part).size : 0;
  if (from > model.bytes) rmSync(part);
  if (from < model.bytes) await load(model, part, from, onProgress);
  const hash = createHash("sha256");
  await pipeline(createReadStream(part), hash);
  if (hash.digest("hex") !== model.sha256) {
    rmSync(part);
    throw new Failure(
      `what ${new URL(model.url).host} sent is not the model (its hash differs), so it was deleted: try again`,
    );
  }
  renameSync(part, path);
}

async function load(
  model: ModelFile,
  part: string,
  from: number,
  onProgress: (bytes: number) => void,
): Promise<void> {
  const connecting = new AbortController();
  const timer = setTimeout(() => connecting.abort(), CONNECT_TIMEOUT_MS);
  const response = await fetch(model.url, {
    signal: connecting.signal,
    headers: from > 0 ? { range: `bytes=${from}-` } : {},
  }).catch((cause: unknown) => {
    throw new Failure(`${new URL(model.url).host} cannot be reached`, { cause });
  });
  clearTimeout(timer);
  if (!response.ok || !response.body)
    throw new Failure(`${new URL(model.url).host} answered ${response.status}`);
  const resumed = response.status === 206;
  let loaded = resumed ? from : 0;
  let shownAt = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      loaded += chunk.byteLength;
      if (loaded > model.bytes) return done(new Failure("more was sent than the model has"));
      if (Date.now() - shownAt > PROGRESS_MS) {
        shownAt = Date.now();
        onProgress(loaded);
      }
      done(null, chunk);
    },
  });
  await pipeline(
    Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]),
    counter,
    createWriteStream(part, { flags: resumed ? "a" : "w" }),
  ).catch((cause: unknown) => {
    throw cause instanceof Failure
      ? cause
      : new Failure("the download broke off; the next try goes on from there", { cause });
  });
  onProgress(loaded);
}
