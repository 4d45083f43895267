/** What servers of OpenAI's API tell of their models, each in its own place. */
import type { Capability, EngineKind } from "@gfe/protocol";
import { z } from "zod";
import type { DiscoveredModel } from "./engine.ts";
import { type EngineAddress, type EngineHost, inquire } from "./engine-http.ts";

const MODELS_MAX = 256;
const FALLBACK_CONTEXT = 4096;
/** vLLM batches what comes; this is what it gets at once unless the provider says otherwise. */
const VLLM_SLOTS = 16;
/** One request with two or three tokens, at most once for each model. */
const PROBE_TIMEOUT_MS = 20_000;
const EMBEDDER = /embed|\bbge\b|bge-|\be5-|gte-|minilm/i;

export type OpenAiKind = Extract<EngineKind, "llama.cpp" | "vllm" | "lm-studio" | "openai-compatible">;

export interface OpenAiOptions {
  host: EngineHost;
  kind: OpenAiKind;
  address: EngineAddress;
  /** Attempts at once with one model; what the server tells, or a cautious figure, unless given. */
  slots?: number;
  /** What the models can do, where the provider knows better than the probes. */
  capabilities?: Capability[];
  /** The digest of a model file that the server names; absent where its files are not this machine's. */
  digestOf?: (path: string) => Promise<string | null>;
}

export type ListedModel = DiscoveredModel & {
  /** The server's own name for it. */
  id: string;
};

type Known = Pick<ListedModel, "contextLength" | "capabilities" | "slots"> &
  Partial<Pick<ListedModel, "digest" | "quantisation" | "parameters">>;

const listSchema = z.object({ data: z.array(z.unknown()).max(4096) });
const entrySchema = z.object({
  id: z.string().min(1),
  max_model_len: z.number().int().positive().nullish(),
  meta: z
    .object({
      n_ctx: z.number().nullish(),
      n_ctx_train: z.number().nullish(),
      n_params: z.number().nullish(),
    })
    .nullish(),
});
type Entry = z.infer<typeof entrySchema>;

/** The models of a server. `before` spares what has been probed once. */
export async function listOpenAiModels(
  options: OpenAiOptions,
  before: ReadonlyMap<string, ListedModel>,
  signal?: AbortSignal,
): Promise<ListedModel[]> {
  const { host, address } = options;
  const bound = signal ? { signal } : {};
  const list = listSchema.safeParse(await inquire(host, address, "/v1/models", bound)).data;
  if (!list) throw new Error(`${address.baseUrl} answers /v1/models with something else`);
  const entries = list.data.slice(0, MODELS_MAX).flatMap((raw) => entrySchema.safeParse(raw).data ?? []);
  const describe = await describerOf(options, entries.length, bound);
  const found: ListedModel[] = [];
  for (const entry of entries) {
    const name = nameOf(entry.id);
    const known = await describe(entry, before.get(name));
    if (!known) continue;
    found.push({
      ...known,
      id: entry.id,
      name,
      ...(options.capabilities ? { capabilities: options.capabilities } : {}),
      ...(options.slots === undefined ? {} : { slots: options.slots }),
    });
  }
  return found;
}

/** llama.cpp names a model by its path, which is nobody's business. */
const nameOf = (id: string): string =>
  /\.gguf$/i.test(id) ? id.replace(/^.*[\\/]/, "").replace(/\.gguf$/i, "") : id;

type Bound = { signal?: AbortSignal };
type Describe = (entry: Entry, before: ListedModel | undefined) => Promise<Known | null>;

async function describerOf(
  { kind, host, address, digestOf }: OpenAiOptions,
  models: number,
  bound: Bound,
): Promise<Describe> {
  switch (kind) {
    case "llama.cpp":
      // A server of several models names the file of none.
      return describeLlamaCpp(host, address, models === 1 ? digestOf : undefined, bound);
    case "vllm":
      return async (entry, before) => ({
        contextLength: entry.max_model_len ?? FALLBACK_CONTEXT,
        capabilities: before?.capabilities ?? (await probeVllm(host, address, entry, bound)),
        slots: VLLM_SLOTS,
      });
    case "lm-studio":
      return describeLmStudio(host, address, bound);
    case "openai-compatible":
      return async (entry, before) => ({
        contextLength: entry.max_model_len ?? FALLBACK_CONTEXT,
        capabilities:
          before?.capabilities ??
          ((await embeds(host, address, entry, bound)) ? ["embedding"] : ["chat", "completion"]),
        slots: 1,
      });
  }
}

const propsSchema = z.object({
  default_generation_settings: z.object({ n_ctx: z.number().nullish() }).nullish(),
  total_slots: z.number().int().positive().nullish(),
  model_ftype: z.string().nullish(),
  chat_template: z.string().nullish(),
  chat_template_caps: z.record(z.string(), z.unknown()).nullish(),
  modalities: z.object({ vision: z.boolean().nullish() }).nullish(),
  model_path: z.string().nullish(),
});

async function describeLlamaCpp(
  host: EngineHost,
  address: EngineAddress,
  digestOf: OpenAiOptions["digestOf"],
  bound: Bound,
): Promise<Describe> {
  const props = propsSchema.safeParse(await inquire(host, address, "/props", bound)).data;
  return async (entry, before) => {
    const capabilities: Capability[] = before?.capabilities ?? [];
    if (capabilities.length === 0) {
      if (await embeds(host, address, entry, bound)) capabilities.push("embedding");
      else {
        capabilities.push("chat", "completion", "json_mode", "json_schema", "seed", "logprobs", "logit_bias");
        // Older servers tell nothing of tools; their template does.
        const caps = props?.chat_template_caps;
        if (caps ? caps.supports_tools === true : /\btools\b/.test(props?.chat_template ?? ""))
          capabilities.push("tools", "tool_choice", "parallel_tool_calls");
        if (props?.modalities?.vision) capabilities.push("vision");
        const thinks = /\b(enable_thinking|reasoning_effort)\b/.test(props?.chat_template ?? "");
        // A thought belongs before the answer: there is no going on behind the answer's beginning.
        capabilities.push(thinks ? "reasoning" : "continuation");
      }
    }
    const digest = props?.model_path ? await digestOf?.(props.model_path) : null;
    const context = props?.default_generation_settings?.n_ctx ?? entry.meta?.n_ctx ?? entry.meta?.n_ctx_train;
    return {
      contextLength: Math.max(1, Math.floor(context || FALLBACK_CONTEXT)),
      capabilities,
      slots: props?.total_slots ?? 1,
      ...(digest ? { digest } : {}),
      ...(props?.model_ftype ? { quantisation: props.model_ftype } : {}),
      ...(entry.meta?.n_params ? { parameters: shortCount(entry.meta.n_params) } : {}),
    };
  };
}

const studioSchema = z.object({
  models: z.array(
    z.object({
      type: z.string(),
      key: z.string(),
      quantization: z.object({ name: z.string().nullish() }).nullish(),
      params_string: z.string().nullish(),
      max_context_length: z.number().nullish(),
      loaded_instances: z
        .array(
          z.object({
            id: z.string(),
            config: z
              .object({
                context_length: z.number().nullish(),
                parallel: z.number().int().positive().nullish(),
              })
              .nullish(),
          }),
        )
        .default([]),
      capabilities: z
        .object({ vision: z.boolean().nullish(), trained_for_tool_use: z.boolean().nullish() })
        .nullish(),
    }),
  ),
});

/** Only what LM Studio has loaded is offered: loading another would push out what the provider uses. */
async function describeLmStudio(host: EngineHost, address: EngineAddress, bound: Bound): Promise<Describe> {
  const studio = studioSchema.safeParse(await inquire(host, address, "/api/v1/models", bound)).data;
  return async (entry) => {
    const model = studio?.models.find(
      ({ key, loaded_instances: loaded }) => key === entry.id || loaded.some(({ id }) => id === entry.id),
    );
    const loaded = model?.loaded_instances.find(({ id }) => id === entry.id) ?? model?.loaded_instances[0];
    if (!model || !loaded) return null;
    const capabilities: Capability[] =
      model.type === "embedding"
        ? ["embedding"]
        : ["chat", "completion", "json_schema", "seed", "logit_bias"];
    if (model.capabilities?.trained_for_tool_use) capabilities.push("tools", "tool_choice");
    if (model.capabilities?.vision) capabilities.push("vision");
    return {
      contextLength: Math.max(
        1,
        Math.floor(loaded.config?.context_length || model.max_context_length || FALLBACK_CONTEXT),
      ),
      capabilities,
      slots: loaded.config?.parallel ?? 1,
      ...(model.quantization?.name ? { quantisation: model.quantization.name } : {}),
      ...(model.params_string ? { parameters: model.params_string } : {}),
    };
  };
}

/** Whether a model whose name says so gives vectors: asked, not guessed. */
async function embeds(
  host: EngineHost,
  address: EngineAddress,
  { id }: Entry,
  bound: Bound,
): Promise<boolean> {
  if (!EMBEDDER.test(id)) return false;
  const body = { model: id, input: ["a"] };
  const answer = await inquire(host, address, "/v1/embeddings", {
    body,
    timeoutMs: PROBE_TIMEOUT_MS,
    ...bound,
  });
  return z.object({ data: z.array(z.unknown()).min(1) }).safeParse(answer).success;
}

/** vLLM refuses tools unless it was started with a parser for them, which nothing but a request tells. */
async function probeVllm(
  host: EngineHost,
  address: EngineAddress,
  entry: Entry,
  bound: Bound,
): Promise<Capability[]> {
  if (await embeds(host, address, entry, bound)) return ["embedding"];
  const body = {
    model: entry.id,
    messages: [{ role: "user", content: "Hi" }],
    max_tokens: 1,
    tools: [{ type: "function", function: { name: "noop", parameters: { type: "object", properties: {} } } }],
    tool_choice: "auto",
  };
  const answer = await inquire(host, address, "/v1/chat/completions", {
    body,
    timeoutMs: PROBE_TIMEOUT_MS,
    ...bound,
  }).catch(() => null);
  const base: Capability[] = [
    "chat",
    "completion",
    "json_mode",
    "json_schema",
    "seed",
    "logprobs",
    "multiple_choices",
    "logit_bias",
  ];
  // Its older releases take `parallel_tool_calls` and ignore it: not claimed.
  return answer === null ? base : [...base, "tools", "tool_choice"];
}

/** 7_241_732_096 → "7.2B" */
function shortCount(count: number): string {
  for (const [unit, size] of [
    ["B", 1e9],
    ["M", 1e6],
    ["K", 1e3],
  ] as const)
    if (count >= size) return `${(count / size).toFixed(1).replace(/\.0$/, "")}${unit}`;
  return String(Math.round(count));
}
