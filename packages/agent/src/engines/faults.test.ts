import { describe, expect, it } from "vitest";
import { failed } from "./engine.ts";
import { refusal } from "./engine-http.ts";
import { type FaultCode, faultOf, verdictOf } from "./faults.ts";

describe("what engines say when", () => {
  it.each<[FaultCode, number, string]>([
    // Ollama
    ["out_of_memory", 500, "model requires more system memory (8.4 GiB) than is available (7.7 GiB)"],
    ["out_of_memory", 500, "llama runner process has terminated: cudaMalloc failed: out of memory"],
    [
      "out_of_memory",
      500,
      "llama runner process has terminated: error:failed to allocate buffer of size 7.2 GiB",
    ],
    ["crashed", 500, "llama runner process has terminated: exit status 2"],
    ["crashed", 500, "llama runner process no longer running: -1"],
    ["crashed", 500, "an error was encountered while running the model: unexpected EOF"],
    ["model_unavailable", 404, 'model "qwen3:8b" not found, try pulling it first'],
    ["model_unavailable", 500, "unable to load model: /root/.ollama/models/blobs/sha256-5a9d"],
    // llama.cpp and its router
    [
      "out_of_memory",
      500,
      "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory",
    ],
    ["out_of_memory", 500, "ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory"],
    ["out_of_memory", 500, "failed to allocate compute pp buffers"],
    ["model_unavailable", 503, "Loading model"],
    ["model_unavailable", 404, "model not found"],
    ["crashed", 500, "GGML_ASSERT(n_tokens <= n_batch) failed"],
    // vLLM
    [
      "out_of_memory",
      500,
      "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB",
    ],
    ["crashed", 500, "EngineCore encountered an issue. See stack trace (above) for the root cause."],
    ["model_unavailable", 404, "The model `Qwen/Qwen3-8B` does not exist."],
    // LM Studio
    ["out_of_memory", 500, "Model loading was stopped due to insufficient system resources."],
    [
      "crashed",
      500,
      "The model has crashed without additional information. (Exit code: 18446744072635812000)",
    ],
    ["model_unavailable", 404, "No models loaded. Please load a model in the developer page."],
    // LocalAI
    ["crashed", 500, "rpc error: code = Unavailable desc = error reading from server: EOF"],
    ["model_unavailable", 500, "could not load model: rpc error: code = Canceled desc ="],
    // Jan
    ["model_unavailable", 404, "No running session found for model_id 'Jan-v1-4B-Q4_K_M'"],
    // TabbyAPI
    ["model_unavailable", 503, "No models are currently loaded."],
    ["out_of_memory", 503, "Insufficient VRAM for model and cache"],
    // Connections
    ["crashed", 502, "read ECONNRESET"],
    ["crashed", 502, "socket hang up"],
  ])("%s: %i %s", (code, status, message) => {
    expect(faultOf(status, message)).toBe(code);
    const verdict = verdictOf(refusal(status, message), false);
    expect(verdict).toMatchObject({ type: "fault", isHard: true, fault: { code } });
  });

  it.each<[number, string]>([
    [500, "Internal Server Error"],
    [500, "Invalid JSON schema"],
    [503, "Server is busy; please try again later."],
    [429, "too many requests"],
  ])("nothing certain: %i %s", (status, message) => {
    expect(faultOf(status, message)).toBeUndefined();
  });
});

describe("an attempt", () => {
  it("that its consumer got refused says nothing of the engine, whatever the refusal quotes", () => {
    for (const status of [400, 413, 422])
      expect(verdictOf(refusal(status, "tools.0.name: CUDA out of memory"), false)).toEqual({
        type: "nothing",
      });
  });

  it("that was cancelled, refused, too long or met a full house says nothing", () => {
    for (const code of ["cancelled", "draining", "busy", "unsupported", "context_length_exceeded"] as const)
      expect(verdictOf(failed(code, "crashed"), false)).toEqual({ type: "nothing" });
  });

  it("that found nobody at the address tells that the engine is away", () => {
    expect(verdictOf(failed("engine_error", "nothing answers"), true)).toMatchObject({
      fault: { code: "unreachable" },
      isHard: true,
    });
  });

  it("that failed for reasons unknown is a soft fault", () => {
    expect(verdictOf(failed("engine_error", "oops"), false)).toMatchObject({
      fault: { code: "failing" },
      isHard: false,
    });
  });

  it("at a server that says model_not_found with 400 tells that the model is gone", () => {
    expect(verdictOf(refusal(400, "nothing of that name", "model_not_found"), false)).toMatchObject({
      fault: { code: "model_unavailable" },
    });
  });
});
