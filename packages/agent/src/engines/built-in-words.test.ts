import { expect, it } from "vitest";
import { loadingWords } from "./built-in-words.ts";

const model = { path: "/models/big.gguf", bytes: 41e9, slots: 4 };
class InsufficientMemoryError extends Error {}

it.each([
  [
    new InsufficientMemoryError("Not enough VRAM to fit the model with the specified settings"),
    /41\.0 GB.*smaller quantisation.*fewer than 4 slots/,
  ],
  [
    new InsufficientMemoryError("A context size of 8192 is too large for the available VRAM"),
    /needs more memory/,
  ],
  [new Error('Invalid GGUF magic. Expected "GGUF" but got "<!DO".'), /is no model file/],
  [new Error("Failed to load model"), /cut short or broken.*pull it again/],
])("%s is told with its cure", (error, words) => {
  expect(loadingWords(error, model)).toMatch(words);
});

it("what speaks for itself is left as it is", () => {
  expect(
    loadingWords(new Error("the built-in engine is not installed: npm install node-llama-cpp"), model),
  ).toBeNull();
});
