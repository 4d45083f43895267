/** What keeps the built-in engine from loading a model, in words that name the cure. Pure. */
import { BUILD } from "../build.ts";

const NO_MODEL = /magic|not a gguf|unsupported gguf|invalid gguf/i;
const NO_MEMORY =
  /insufficient ?memory|not enough (v?ram|memory)|out of memory|failed to allocate|too large for the available/i;
const BROKEN =
  /failed to load model|end of file|out of bounds|unexpected end|offset .*range|premature|corrupt|tensor|TypeError|RangeError/i;

/** Why there is no built-in engine, and what to do. */
export const NOT_INSTALLED =
  BUILD.kind === "executable"
    ? "this program has no engine of its own: start Ollama or llama.cpp beside it, or run the npm package (npm install -g gpu-for-everyone node-llama-cpp)"
    : "the built-in engine is not installed: npm install node-llama-cpp";

/** Null for a reason that speaks for itself. */
export function loadingWords(
  error: unknown,
  model: { path: string; bytes: number; slots: number },
): string | null {
  const { name = "", message = "" } = error instanceof Error ? error : {};
  const said = `${error instanceof Error ? error.constructor.name : ""} ${name} ${message}`;
  const { path } = model;
  if (NO_MEMORY.test(said))
    return `${path} (${(model.bytes / 1e9).toFixed(1)} GB) needs more memory than is free (${message}): close what else uses it, pull a smaller quantisation such as :Q4_K_M or a smaller model${model.slots > 1 ? `, or give it fewer than ${model.slots} slots` : ""}`;
  if (NO_MODEL.test(said))
    return `${path} is no model file (GGUF), or its beginning is broken: pull it again, or name another file`;
  if (BROKEN.test(said))
    return `${path} can't be loaded (${message}): it is cut short or broken, or of a kind that this version does not know. Remove it and pull it again, or update the agent`;
  return null;
}
