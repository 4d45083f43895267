/**
 * The engine inside the agent: llama.cpp through node-llama-cpp, an optional dependency that is loaded only here. It
 * takes what binaries came with the package; it never builds or downloads any.
 */
import { type BuiltInModel, type BuiltInOptions, loadBuiltInModel } from "./built-in-model.ts";
import { runBuiltIn } from "./built-in-run.ts";
import { type DiscoveredModel, type Engine, failed } from "./engine.ts";

/** Loads the model at the first look at its models; a look that fails is tried again at the next. */
export function createBuiltInEngine(options: BuiltInOptions): Engine {
  let loading: Promise<BuiltInModel> | null = null;
  let model: BuiltInModel | null = null;
  let known: DiscoveredModel | null = null;
  let closed = false;

  async function open(): Promise<BuiltInModel> {
    loading ??= loadBuiltInModel(options).catch((error: unknown) => {
      loading = null;
      throw error;
    });
    model = await loading;
    return model;
  }

  return {
    kind: "built-in",
    label: options.modelPath,
    async models(): Promise<DiscoveredModel[]> {
      if (closed) return [];
      const facts = await options.host.files.facts(options.modelPath);
      if (!facts) throw new Error(`${options.modelPath} is not there`);
      // What was put aside stays aside until it is asked for; a look at it loads nothing.
      if (!known || loading) known = (await open()).facts;
      return [known];
    },
    async run(attempt, sink, signal) {
      if (closed) return failed("engine_error", "the built-in engine is not loaded");
      return runBuiltIn(model ?? (await open()), attempt, sink, signal);
    },
    async unload() {
      const loaded = await loading?.catch(() => null);
      [loading, model] = [null, null];
      await loaded?.dispose();
    },
    async close() {
      closed = true;
      await loading?.then(
        (loaded) => loaded.dispose(),
        () => {},
      );
    },
  };
}
