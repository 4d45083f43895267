/**
 * What each engine answers, as its releases of late 2025 and 2026 do: enough of each route that tells it from the others,
 * imitations of one another and all. Ollama's own fixture with more of its API is in ollama.ts.
 */
import type { Answer } from "./engine-server.ts";
import { show, shows, tag } from "./ollama.ts";

type Answers = Record<string, Answer>;

const status =
  (code: number, body: string | object, type = "application/json"): Answer =>
  (_request, response) =>
    void response
      .writeHead(code, { "content-type": type })
      .end(typeof body === "string" ? body : JSON.stringify(body));

const html = (title: string) =>
  status(200, `<!DOCTYPE html><html><head><title>${title}</title></head></html>`, "text/html");
const model = (id: string, ownedBy: string, more: object = {}) => ({
  id,
  object: "model",
  created: 1763900000,
  owned_by: ownedBy,
  ...more,
});
const list = (...data: object[]) => ({ object: "list", data });
/** FastAPI's refusal of an unknown path. */
const fastApiNotFound = status(404, { detail: "Not Found" });

export const QWEN_FILE = "Qwen3-8B-Q4_K_M.gguf";

export const ollamaServer = (): Answers => ({
  "/": status(200, "Ollama is running", "text/plain; charset=utf-8"),
  "/api/version": { version: "0.13.2" },
  "/api/tags": { models: [tag("qwen3:8b")] },
  "/api/show": shows({ "qwen3:8b": show() }),
  "/v1/models": list(model("qwen3:8b", "library")),
});

export const llamaCppServer = (): Answers => ({
  "/": html("llama.cpp"),
  "/health": { status: "ok" },
  "/v1/models": {
    // Its list imitates Ollama's beside OpenAI's.
    models: [{ name: QWEN_FILE, model: QWEN_FILE, type: "model", capabilities: ["completion"] }],
    ...list(
      model(`/home/someone/models/${QWEN_FILE}`, "llamacpp", {
        meta: { vocab_type: 2, n_vocab: 151936, n_ctx_train: 40960, n_embd: 4096, n_params: 8190735360 },
      }),
    ),
  },
  "/api/tags": { models: [{ name: QWEN_FILE, model: QWEN_FILE, details: { format: "gguf" } }] },
  "/props": {
    default_generation_settings: { id: 0, n_ctx: 16384, params: {} },
    total_slots: 4,
    model_alias: QWEN_FILE,
    model_path: `/home/someone/models/${QWEN_FILE}`,
    model_ftype: "Q4_K - Medium",
    modalities: { vision: false, audio: false },
    chat_template: "{%- if tools %}…{% endif %}",
    chat_template_caps: { supports_tools: true },
    build_info: "b7120-4949ac0",
  },
  "*": status(404, { error: { code: 404, message: "File Not Found", type: "not_found_error" } }),
});

/** llama-server started without a model: one server for each that is asked for. */
export const llamaCppRouter = (): Answers => ({
  ...llamaCppServer(),
  "/v1/models": list(
    model("ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "llamacpp", {
      in_cache: true,
      path: "/home/someone/.cache/llama.cpp/gemma-3-4b-it-Q4_K_M.gguf",
      status: { value: "loaded", args: ["llama-server", "-ctx", "4096"] },
    }),
    model("ggml-org/Qwen3-8B-GGUF:Q8_0", "llamacpp", { in_cache: true, status: { value: "unloaded" } }),
    model("ggml-org/broken-GGUF:Q8_0", "llamacpp", {
      in_cache: true,
      status: { value: "unloaded", failed: true, exit_code: 1 },
    }),
  ),
  "/props": (request, response) => {
    const name = new URL(`http://x${request.url}`).searchParams.get("model");
    const body =
      name === null
        ? {
            role: "router",
            model_path: "none",
            default_generation_settings: { n_ctx: 0 },
            build_info: "b7400-1",
          }
        : name.startsWith("ggml-org/gemma")
          ? { default_generation_settings: { n_ctx: 8192 }, total_slots: 2, build_info: "b7400-1" }
          : { error: { code: 400, message: "model is not loaded", type: "invalid_request_error" } };
    response
      .writeHead("error" in body ? 400 : 200, { "content-type": "application/json" })
      .end(JSON.stringify(body));
  },
});

export const vllmServer = (): Answers => ({
  "/": fastApiNotFound,
  "/health": status(200, "", "text/plain"),
  "/version": { version: "0.11.2" },
  "/openapi.json": { openapi: "3.1.0", info: { title: "FastAPI", version: "0.1.0" }, paths: {} },
  "/v1/models": list(
    model("Qwen/Qwen3-8B-AWQ", "vllm", {
      root: "Qwen/Qwen3-8B-AWQ",
      parent: null,
      max_model_len: 32768,
      permission: [{ id: "modelperm-1", object: "model_permission", allow_sampling: true }],
    }),
  ),
  "/v1/chat/completions": status(400, {
    error: {
      message: '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
      type: "BadRequestError",
      param: null,
      code: 400,
    },
  }),
  "*": fastApiNotFound,
});

export const lmStudioServer = (): Answers => ({
  "/v1/models": list(
    model("qwen/qwen3-8b", "organization_owner"),
    model("google/gemma-3-4b", "organization_owner"),
  ),
  "/api/v1/models": {
    models: [
      {
        type: "llm",
        publisher: "qwen",
        key: "qwen/qwen3-8b",
        display_name: "Qwen3 8B",
        architecture: "qwen3",
        quantization: { name: "Q4_K_M", bits_per_weight: 4 },
        size_bytes: 5027783488,
        params_string: "8B",
        loaded_instances: [
          {
            id: "qwen/qwen3-8b",
            config: { context_length: 8192, eval_batch_size: 512, parallel: 4, flash_attention: true },
          },
        ],
        max_context_length: 40960,
        format: "gguf",
        capabilities: { vision: false, trained_for_tool_use: true },
      },
      {
        type: "llm",
        key: "google/gemma-3-4b",
        quantization: { name: "Q4_0", bits_per_weight: 4 },
        params_string: "4B",
        loaded_instances: [],
        max_context_length: 131072,
        capabilities: { vision: true, trained_for_tool_use: false },
      },
    ],
  },
  // Whatever is asked is answered with 200.
  "*": ({ path }, response) =>
    void response
      .writeHead(200, { "content-type": "application/json" })
      .end(JSON.stringify({ error: `Unexpected endpoint or method. (GET ${path})` })),
});

/** Before 0.4 there was no /api/v1. */
export const lmStudioBefore = (): Answers => ({
  ...lmStudioServer(),
  "/api/v1/models": { error: "Unexpected endpoint or method. (GET /api/v1/models)" },
  "/api/v0/models": list(
    {
      id: "qwen/qwen3-8b",
      object: "model",
      type: "llm",
      arch: "qwen3",
      compatibility_type: "gguf",
      quantization: "Q4_K_M",
      state: "loaded",
      max_context_length: 40960,
      loaded_context_length: 8192,
    },
    {
      id: "google/gemma-3-4b",
      object: "model",
      type: "vlm",
      quantization: "Q4_0",
      state: "not-loaded",
      max_context_length: 131072,
    },
  ),
});

export const localAiServer = (): Answers => ({
  "/": html("LocalAI"),
  "/readyz": status(200, "OK", "text/plain"),
  "/healthz": status(200, "OK", "text/plain"),
  "/version": { version: "v3.8.0" },
  // Entries without an owner, and models of all sorts among them.
  "/v1/models": list(
    { id: "qwen3-8b-Q4_K_M", object: "model" },
    { id: "nomic-embed-text-v1.5", object: "model" },
    { id: "flux.1-dev", object: "model" },
  ),
  "/v1/models/capabilities": list(
    {
      id: "qwen3-8b-Q4_K_M",
      object: "model",
      capabilities: ["chat", "completion", "tools", "thinking"],
      input_modalities: ["text"],
      output_modalities: ["text"],
      context_size: 8192,
    },
    {
      id: "nomic-embed-text-v1.5",
      object: "model",
      capabilities: ["embeddings"],
      context_size: 2048,
    },
    { id: "flux.1-dev", object: "model", capabilities: ["image"], output_modalities: ["image"] },
  ),
  "*": status(404, { error: { code: 404, message: "Not Found", type: "" } }),
});

/** Before 4 it told nothing but names. */
export const localAiBefore = (): Answers => {
  const { "/v1/models/capabilities": _newer, ...answers } = localAiServer();
  return answers;
};

export const janServer = (): Answers => ({
  "/": html("API Docs"),
  "/openapi.json": {
    openapi: "3.0.0",
    info: { title: "Jan API Server Endpoints", version: "1.0" },
    servers: [{ url: "http://localhost:1337/v1" }],
    paths: { "/models": {} },
  },
  "/v1/models": list({ id: "Jan-v1-4B-Q4_K_M", object: "model", created: 1, owned_by: "user" }),
  "*": status(404, "Not Found", "text/plain"),
});

export const koboldCppServer = (): Answers => ({
  "/": html("KoboldAI Lite"),
  "/api/extra/version": {
    ...{ result: "KoboldCpp", version: "1.102", protected: false, llm: true, txt2img: false, vision: true },
    ...{
      audio: false,
      transcribe: false,
      multiplayer: false,
      websearch: false,
      tts: false,
      embeddings: false,
    },
  },
  "/api/extra/true_max_context_length": { value: 12288 },
  "/v1/models": list(model("koboldcpp/Qwen3-8B-Q4_K_M", "koboldcpp", { permission: [], root: "koboldcpp" })),
  // It matches the ends of paths.
  "/api/v1/models": list(model("koboldcpp/Qwen3-8B-Q4_K_M", "koboldcpp")),
  // And it imitates both llama.cpp and Ollama.
  "/props": {
    chat_template: "…",
    id: 0,
    total_slots: 1,
    model_path: "local_model.gguf",
    default_generation_settings: { n_ctx: 12288 },
    build_info: "koboldcpp",
  },
  "/api/tags": { models: [{ name: "koboldcpp", model: "koboldcpp/Qwen3-8B-Q4_K_M:latest" }] },
  "/api/version": { version: "0.7.0" },
  "*": status(404, "Error: KoboldCpp HTTP Server is running, but this endpoint does not exist.", "text/html"),
});

export const tabbyApiServer = (): Answers => {
  const current = model("Qwen3-8B-exl3-4.0bpw", "tabbyAPI", {
    logging: null,
    parameters: {
      ...{ max_seq_len: 16384, cache_size: 32768, cache_mode: "Q8", rope_scale: 1, rope_alpha: 1 },
      ...{ max_batch_size: 8, chunk_size: 2048, prompt_template: "chatml", use_vision: false, draft: null },
    },
  });
  return {
    "/": fastApiNotFound,
    "/health": { status: "healthy", issues: [] },
    "/openapi.json": { openapi: "3.1.0", info: { title: "TabbyAPI", version: "0.1.0" }, paths: {} },
    "/v1/model": current,
    // An admin's key lists every folder beside it.
    "/v1/models": list(current, model("Llama-3.2-1B-exl2-6.5bpw", "tabbyAPI")),
    "*": fastApiNotFound,
  };
};

/** Both ask for a key unless their owner turns that off. */
export const tabbyApiLocked = (): Answers => ({
  ...tabbyApiServer(),
  "/v1/model": status(401, { detail: "Please provide an API key" }),
  "/v1/models": status(401, { detail: "Please provide an API key" }),
});
export const janLocked = (): Answers => ({
  ...janServer(),
  "/v1/models": status(401, "Invalid or missing authorization token", "text/plain"),
});
