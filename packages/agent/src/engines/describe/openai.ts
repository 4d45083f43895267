/** The models of a server of OpenAI's API, each described in the way of its kind. */
import type { Capability, EngineKind } from "@gfe/protocol";
import { z } from "zod";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";
import { describeJan } from "./jan.ts";
import {
  type Bound,
  type Describe,
  entrySchema,
  type ListedModel,
  plainCapabilities,
  wholeContext,
} from "./known.ts";
import { describeKoboldCpp } from "./kobold-cpp.ts";
import { describeLlamaCpp } from "./llama-cpp.ts";
import { describeLmStudio } from "./lm-studio.ts";
import { describeLocalAi } from "./local-ai.ts";
import { describeTabbyApi } from "./tabby-api.ts";
import { describeVllm } from "./vllm.ts";

const MODELS_MAX = 256;

export type OpenAiKind = Exclude<EngineKind, "ollama" | "built-in" | "scripted">;

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

const listSchema = z.object({ data: z.array(z.unknown()).max(4096) });

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
    const name = nameOf(entry.id, options.kind);
    const known = await describe(entry, before.get(name));
    if (!known) continue;
    const { slotsAssumed: _assumed, ...told } = known;
    found.push({
      ...(options.slots === undefined ? known : { ...told, slots: options.slots }),
      ...(options.capabilities ? { capabilities: options.capabilities } : {}),
      id: entry.id,
      name,
    });
  }
  return found;
}

/** llama.cpp names a model by its path, which is nobody's business; KoboldCpp puts its own name before it. */
function nameOf(id: string, kind: OpenAiKind): string {
  const name = kind === "koboldcpp" ? id.replace(/^koboldcpp\//, "") : id;
  return /\.gguf$/i.test(name) ? name.replace(/^.*[\\/]/, "").replace(/\.gguf$/i, "") : name;
}

async function describerOf(
  { kind, host, address, digestOf }: OpenAiOptions,
  models: number,
  bound: Bound,
): Promise<Describe> {
  switch (kind) {
    case "llama.cpp":
      return describeLlamaCpp({ host, address, models, bound, ...(digestOf ? { digestOf } : {}) });
    case "vllm":
      return describeVllm(host, address, bound);
    case "lm-studio":
      return describeLmStudio(host, address, bound);
    case "localai":
      return describeLocalAi(host, address, bound);
    case "jan":
      return describeJan(host, address, bound);
    case "koboldcpp":
      return describeKoboldCpp(host, address, bound);
    case "tabbyapi":
      return describeTabbyApi(host, address, bound);
    case "openai-compatible":
      return async (entry, before) => ({
        contextLength: wholeContext(entry.max_model_len),
        capabilities: before?.capabilities ?? (await plainCapabilities(host, address, entry, bound)),
        slots: 1,
        slotsAssumed: "this server does not tell how many answers it computes at once",
      });
  }
}
