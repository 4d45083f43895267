/**
 * The program in which llama.cpp runs: a model, and the attempts on it, over lines. It is a program of its own so that it
 * can be confined, so that its crash is not the agent's, and so that all its memory is free when it ends.
 */
import { type BuiltInModel, loadBuiltInModel } from "./built-in-model.ts";
import { runBuiltIn } from "./built-in-run.ts";
import type { FromProgram, ToProgram } from "./built-in-wire.ts";
import { type EngineAttempt, type EngineSink, failed } from "./engine.ts";

interface Running {
  abort: AbortController;
  /** While the hub wants no more. */
  held: PromiseWithResolvers<void> | null;
}

/** Takes one line after the other; `say` is given one line at a time, without its end. */
export function createBuiltInProgram(say: (line: string) => void): (line: string) => Promise<void> {
  const tell = (statement: FromProgram) => say(JSON.stringify(statement));
  const running = new Map<number, Running>();
  let model: BuiltInModel | null = null;

  async function run(id: number, attempt: EngineAttempt): Promise<void> {
    if (!model) return tell({ type: "ended", id, outcome: failed("engine_error", "no model is loaded") });
    const own: Running = { abort: new AbortController(), held: null };
    running.set(id, own);
    const sink: EngineSink = {
      text: (text) => tell([id, text]),
      reasoning: (text) => tell([id, text, 1]),
      choice: (delta) => tell({ type: "choice", id, delta }),
      embeddings: (vectors) => tell({ type: "embeddings", id, vectors: [...vectors] }),
      ready: () => own.held?.promise,
    };
    const outcome = await runBuiltIn(model, attempt, sink, own.abort.signal).catch((error: unknown) =>
      failed(own.abort.signal.aborted ? "cancelled" : "engine_error", messageOf(error)),
    );
    running.delete(id);
    tell({ type: "ended", id, outcome });
  }

  return async (line) => {
    const told = JSON.parse(line) as ToProgram;
    if (told.type === "load") {
      try {
        model = await loadBuiltInModel(told.model, (message) => tell({ type: "log", message }));
        return tell({ type: "loaded", facts: model.facts });
      } catch (error) {
        return tell({ type: "unloadable", message: messageOf(error) });
      }
    }
    if (told.type === "run") return run(told.id, told.attempt);
    const attempt = running.get(told.id);
    if (!attempt) return;
    if (told.type === "abort") attempt.abort.abort(new Error("cancelled"));
    if (told.type === "hold") attempt.held ??= Promise.withResolvers();
    // Who was aborted while held has to wake up to notice.
    if (told.type !== "hold") {
      attempt.held?.resolve();
      attempt.held = null;
    }
  };
}

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : "the model failed").slice(0, 5_000);
