/**
 * The built-in engine: llama.cpp through node-llama-cpp, an optional dependency, in a program of its own (built-in-program.ts)
 * that runs in the sandbox. It takes what binaries came with the package; it never builds or downloads any.
 */
import type { Host } from "../host.ts";
import { createKeeper, type Keeper } from "../sandbox/keeper.ts";
import { type OpenHost, openSandbox } from "../sandbox/open.ts";
import type { Sandbox, SandboxSettings } from "../sandbox/sandbox.ts";
import { type BuiltInSession, openBuiltInSession } from "./built-in-session.ts";
import type { ModelToLoad } from "./built-in-wire.ts";
import { NOT_INSTALLED } from "./built-in-words.ts";
import { digestOfFile } from "./digests.ts";
import { type DiscoveredModel, type Engine, failed } from "./engine.ts";
import { partsOfModel } from "./started-command.ts";

export interface BuiltInOptions {
  host: OpenHost & Pick<Host, "nowMs">;
  /** A GGUF file; the first one where a model has several. */
  modelPath: string;
  /** What consumers ask for; the file's name without its ending unless given. */
  name?: string;
  /** Sequences that are computed at once. */
  slots?: number;
  contextLengthMax?: number;
  /** Threads on the CPU; 1 for tiny models, where a second one costs more than it gives. */
  threads?: number;
  /** Whether to use a GPU where one works; true unless given. */
  gpu?: boolean;
  /** Offer vectors of a model that is not made for them. */
  embeddings?: boolean;
  sandbox?: SandboxSettings;
}

/** Where the program sees the model: its owner's folders are none of its business. */
const INSIDE = "/model";

/** Loads the model at the first look at its models; a program that ends is started again. */
export function createBuiltInEngine(options: BuiltInOptions): Engine {
  const { host, modelPath, slots = 1 } = options;
  const name = options.name ?? baseOf(modelPath).replace(/\.gguf$/i, "");
  let sandbox: Promise<Sandbox> | null = null;
  let known: DiscoveredModel | null = null;
  let rests = false;
  let closed = false;
  let changed = () => {};

  const keeper: Keeper<BuiltInSession> = createKeeper<BuiltInSession>({
    host,
    label: modelPath,
    async start() {
      const helper = host.helper("built-in");
      if (!helper) throw new Error(NOT_INSTALLED);
      sandbox ??= openSandbox(host, options.sandbox).catch((error: unknown) => {
        sandbox = null;
        throw error;
      });
      const { start, status } = await sandbox;
      const confined = status.kind !== "none";
      const files = partsOfModel(modelPath).map((from) => ({ from, to: `${INSIDE}/${baseOf(from)}` }));
      const child = await start({ helper, args: [], env: {}, files, gpu: options.gpu !== false });
      const facts = await host.files.facts(modelPath);
      const load: ModelToLoad = {
        modelPath: confined ? `${INSIDE}/${baseOf(modelPath)}` : modelPath,
        ...{ name, sizeBytes: facts?.sizeBytes ?? 0, slots },
        ...(options.contextLengthMax === undefined ? {} : { contextLengthMax: options.contextLengthMax }),
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        ...(options.gpu === undefined ? {} : { gpu: options.gpu }),
        ...(options.embeddings === undefined ? {} : { embeddings: options.embeddings }),
      };
      void child.write(new TextEncoder().encode(`${JSON.stringify({ type: "load", model: load })}\n`));
      return child;
    },
    open: (child) => openBuiltInSession(child, (message) => host.log.warn({ engine: "built-in" }, message)),
    onChange: () => changed(),
  });

  return {
    kind: "built-in",
    label: modelPath,
    async models(): Promise<DiscoveredModel[]> {
      if (closed) return [];
      const facts = await host.files.facts(modelPath);
      if (!facts) throw new Error(`${modelPath} is not there`);
      // A model that was put aside is offered still: the next attempt loads it.
      if (rests && known) return [known];
      const session = await keeper.use();
      const digest = await digestOfFile(host, modelPath, facts);
      known = { name, digest, slots, ...session.facts } as DiscoveredModel;
      return [known];
    },
    async run(attempt, sink, signal) {
      if (closed || !known) return failed("engine_error", "the built-in engine is not loaded");
      rests = false;
      const session = keeper.current ?? (await keeper.use());
      keeper.hush();
      return session.run(attempt, sink, signal);
    },
    async unload() {
      rests = true;
      await keeper.rest();
    },
    watch(callback) {
      changed = callback;
    },
    async close() {
      closed = true;
      await keeper.rest();
    },
  };
}

const baseOf = (path: string): string => path.replace(/^.*[\\/]/, "");
