/** Which models Ollama has on this machine, from /api/tags and /api/show. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import type { DiscoveredModel } from "./engine.ts";
import { type EngineAddress, type EngineHost, inquire } from "./engine-http.ts";

const MODELS_MAX = 256;
/** The release that can tell log-probabilities. */
const LOGPROBS_SINCE = [0, 12, 11];
const FALLBACK_CONTEXT = 4096;

const tagSchema = z.object({
  name: z.string(),
  digest: z.string().optional(),
  remote_model: z.string().optional(),
  remote_host: z.string().optional(),
  details: z
    .object({ parameter_size: z.string().nullish(), quantization_level: z.string().nullish() })
    .nullish(),
});
type Tag = z.infer<typeof tagSchema>;
const tagsSchema = z.object({ models: z.array(z.unknown()).max(4096) });

const showSchema = z.object({
  capabilities: z.array(z.string()).optional(),
  model_info: z.record(z.string(), z.unknown()).nullish(),
  parameters: z.string().nullish(),
  remote_model: z.string().optional(),
  remote_host: z.string().optional(),
});
type Shown = z.infer<typeof showSchema>;

/** Whether a model runs somewhere else: those are never offered, for they are not this provider's to sell. */
const isRemote = (facts: { name?: string; remote_model?: string; remote_host?: string }): boolean =>
  Boolean(facts.remote_model || facts.remote_host) || /[:-]cloud$/.test(facts.name ?? "");

export interface OllamaLimits {
  slots: number;
  /** Why it is this many; absent where the provider said so. */
  slotsAssumed?: string;
  contextLengthMax: number;
}

/** A look at the models; what /api/show said is kept by digest, so an unchanged list costs one request. */
export function createOllamaCatalogue(
  host: EngineHost,
  address: EngineAddress,
  limits: OllamaLimits,
): (signal?: AbortSignal) => Promise<DiscoveredModel[]> {
  let shownBefore = new Map<string, Shown>();
  let logprobs: boolean | undefined;

  return async (signal) => {
    const bound = signal ? { signal } : {};
    const tags = tagsSchema.safeParse(await inquire(host, address, "/api/tags", bound));
    if (!tags.success) throw new Error(`${address.baseUrl} answers /api/tags with something else`);
    logprobs ??= await tellsLogprobs(host, address, bound);
    const shownNow = new Map<string, Shown>();
    const found: DiscoveredModel[] = [];
    for (const entry of tags.data.models.slice(0, MODELS_MAX)) {
      const tag = tagSchema.safeParse(entry).data; // one odd entry spoils no other
      if (!tag || isRemote(tag)) continue;
      const key = `${tag.name} ${tag.digest}`;
      const shown =
        shownBefore.get(key) ??
        showSchema.safeParse(
          await inquire(host, address, "/api/show", { body: { model: tag.name }, ...bound }),
        ).data;
      if (!shown || isRemote(shown)) continue;
      shownNow.set(key, shown);
      const model = describe(tag, shown, limits, logprobs);
      if (model) found.push(model);
    }
    shownBefore = shownNow;
    return found;
  };
}

function describe(tag: Tag, shown: Shown, limits: OllamaLimits, logprobs: boolean): DiscoveredModel | null {
  const capabilities = capabilitiesOf(shown.capabilities ?? ["completion"], logprobs);
  if (capabilities.length === 0) return null;
  const digest = /^(?:sha256:)?([0-9a-f]{12,64})$/.exec(tag.digest ?? "")?.[1];
  return {
    name: tag.name,
    ...(digest ? { digest: `sha256:${digest}` } : {}),
    ...(tag.details?.quantization_level ? { quantisation: tag.details.quantization_level } : {}),
    ...(tag.details?.parameter_size ? { parameters: tag.details.parameter_size } : {}),
    contextLength: contextOf(shown, limits.contextLengthMax),
    capabilities,
    slots: limits.slots,
    ...(limits.slotsAssumed ? { slotsAssumed: limits.slotsAssumed } : {}),
  };
}

/**
 * Ollama serves a window of its choice, and cuts what does not fit without a word; so each attempt asks for one:
 * the model file's own `num_ctx`, else the bound, never more than the model was made for.
 */
function contextOf(shown: Shown, bound: number): number {
  const trained = Object.entries(shown.model_info ?? {}).find(([name]) =>
    name.endsWith(".context_length"),
  )?.[1];
  const limit = typeof trained === "number" && trained >= 1 ? Math.floor(trained) : FALLBACK_CONTEXT;
  const configured = Number(/^num_ctx\s+(\d+)/m.exec(shown.parameters ?? "")?.[1]);
  return Math.min(limit, configured || bound);
}

function capabilitiesOf(told: readonly string[], logprobs: boolean): Capability[] {
  const found: Capability[] = [];
  if (told.includes("completion")) {
    found.push("chat", "completion", "json_mode", "json_schema", "seed");
    if (logprobs) found.push("logprobs");
    if (told.includes("tools")) found.push("tools");
    if (told.includes("vision")) found.push("vision");
    // A thought belongs before the answer: there is no going on behind the answer's beginning.
    found.push(told.includes("thinking") ? "reasoning" : "continuation");
  }
  if (told.includes("embedding")) found.push("embedding");
  return found;
}

async function tellsLogprobs(
  host: EngineHost,
  address: EngineAddress,
  bound: { signal?: AbortSignal },
): Promise<boolean> {
  const told = z
    .object({ version: z.string() })
    .safeParse(await inquire(host, address, "/api/version", bound));
  const numbers = /^(\d+)\.(\d+)\.(\d+)/
    .exec(told.data?.version ?? "")
    ?.slice(1)
    .map(Number);
  if (!numbers) return false;
  for (const [index, wanted] of LOGPROBS_SINCE.entries()) {
    if (numbers[index]! !== wanted) return numbers[index]! > wanted;
  }
  return true;
}
