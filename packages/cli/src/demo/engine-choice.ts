/** What the demo's nodes run: a local engine, a GGUF file, a downloaded model, or the labelled script. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import {
  createBuiltInEngine,
  createScriptedEngine,
  describeSandbox,
  detectEngines,
  download,
  type Engine,
  type Host,
} from "@gfe/agent";

export interface EngineChoice {
  /** For people; says so when no model runs. */
  label: string;
  /** A new one for each node; both nodes share a detected one. */
  make(): Engine;
  /** The model to chat with. */
  model: string;
}

/** Qwen2.5 0.5B Instruct by Alibaba Cloud, quantised by its makers; the revision is pinned, so the hash is too. */
const DEMO_MODEL = {
  name: "qwen2.5-0.5b-instruct-q4_k_m",
  url: "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/9217f5db79a29953eb74d5343926648285ec7e67/qwen2.5-0.5b-instruct-q4_k_m.gguf",
  bytes: 491_400_032,
  sha256: "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db",
  licence: "Apache-2.0",
};

const ASK_TIMEOUT_MS = 20_000;

export async function chooseEngine(host: Host, download: boolean): Promise<EngineChoice> {
  for (const engine of await detectEngines(host)) {
    const models = await engine.models().catch(() => []);
    const chat = models.find(({ capabilities }) => capabilities.includes("chat"));
    if (chat) return { label: `${engine.kind} at ${engine.label}`, make: () => engine, model: chat.name };
  }
  const path = process.env.GFE_MODEL ?? (await downloadedModel(host, download));
  if (path) {
    // The demo's only consumer is who runs it: where nothing confines the engine, it is said and goes on.
    const confined = (await describeSandbox(host)).status !== null;
    const sandbox = confined ? {} : { kind: "none" as const };
    const make = () => createBuiltInEngine({ host, modelPath: path, slots: 1, sandbox });
    const probe = make();
    const model = (await probe.models())[0]!.name;
    await probe.close?.();
    return {
      label: `the built-in engine with ${path}${confined ? "" : " (without a sandbox)"}`,
      make,
      model,
    };
  }
  const words =
    "No model is running here: this answer is a script. But it came from a node, through the hub, token by token, and it was paid for.".match(
      /\S+\s*/g,
    )!;
  return {
    label:
      "a SCRIPTED engine: no model runs (start Ollama, or set GFE_MODEL to a GGUF file, to see a real one)",
    make: () =>
      createScriptedEngine(host, {
        models: [{ name: "scripted-demo" }],
        text: words,
        paceMs: 30,
        firstDeltaMs: 80,
      }),
    model: "scripted-demo",
  };
}

/** The demo's model if it is there, or if its user wants it. */
async function downloadedModel(host: Host, unasked: boolean): Promise<string | null> {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "gpu-for-everyone");
  const path = join(cache, `${DEMO_MODEL.name}.gguf`);
  if (existsSync(path)) return path;
  if (!unasked && !(await wanted())) return null;
  try {
    await host.files.makeDirectory(cache, 0o755);
    const { name, url, bytes, sha256 } = DEMO_MODEL;
    await download({
      ...{ host, path, page: null, file: { name, url, bytes, sha256 } },
      onProgress: ({ bytes: loaded }) => showProgress(loaded),
    });
    process.stdout.write("\n");
    return path;
  } catch (error) {
    console.log(`\nThe model was not downloaded: ${(error as Error).message}.`);
    return null;
  }
}

async function wanted(): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const size = `${Math.round(DEMO_MODEL.bytes / 1e6)} MB`;
    const answer = await terminal.question(
      `No engine was found. Download ${DEMO_MODEL.name} (${size}, ${DEMO_MODEL.licence})? [y/N] `,
      { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) },
    );
    return /^y(es)?$/i.test(answer.trim());
  } catch {
    return false; // nobody there
  } finally {
    terminal.close();
  }
}

function showProgress(bytes: number): void {
  const share = bytes / DEMO_MODEL.bytes;
  const bar = "█".repeat(Math.round(share * 30)).padEnd(30, "░");
  process.stdout.write(`\r${bar} ${(share * 100).toFixed(1)} % of ${Math.round(DEMO_MODEL.bytes / 1e6)} MB`);
}
