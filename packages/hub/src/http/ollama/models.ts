/** The market's models as Ollama lists what is on a disk. */
import type { Capability } from "@gfe/protocol";
import { type NodeEntry, offeredAs } from "../../market/registry.ts";

export interface OllamaMarket {
  models(): Iterable<string>;
  nodesOf(model: string): readonly NodeEntry[];
}

/** Ollama clients leave `:latest` out, or put it where an engine's names have no tags. */
export function offeredName(market: OllamaMarket, asked: string): string {
  if (market.nodesOf(asked).length > 0) return asked;
  const other = asked.endsWith(":latest") ? asked.slice(0, -":latest".length) : `${asked}:latest`;
  return market.nodesOf(other).length > 0 ? other : asked;
}

/** The entry of /api/tags. Bytes on a provider's disk are not known here: 0. */
export function tagWire(market: OllamaMarket, model: string) {
  const nodes = market.nodesOf(model);
  const offers = offersOf(nodes, model);
  return {
    name: model,
    model,
    modified_at: sinceOf(nodes),
    size: 0,
    digest: (offers.find(({ digest }) => digest !== undefined)?.digest ?? "").replace(/^sha256:/, ""),
    details: detailsOf(offers),
    capabilities: capabilitiesOf(offers),
    context_length: Math.max(...offers.map((offer) => offer.context_length)),
  };
}

export function showWire(market: OllamaMarket, model: string) {
  const nodes = market.nodesOf(model);
  const offers = offersOf(nodes, model);
  return {
    modelfile: "",
    parameters: "",
    template: "",
    license: "",
    details: detailsOf(offers),
    model_info: {
      "general.architecture": ARCHITECTURE,
      "general.basename": model,
      [`${ARCHITECTURE}.context_length`]: Math.max(...offers.map((offer) => offer.context_length)),
    },
    capabilities: capabilitiesOf(offers),
    modified_at: sinceOf(nodes),
  };
}

/** Models that compute something now. */
export function runningWire(market: OllamaMarket, nowMs: number) {
  return [...market.models()]
    .filter((model) =>
      market.nodesOf(model).some(({ runningByModel }) => (runningByModel.get(model) ?? 0) > 0),
    )
    .sort()
    .map((model) => {
      const { modified_at: _since, capabilities: _can, ...tag } = tagWire(market, model);
      return { ...tag, expires_at: new Date(nowMs + KEPT_MS).toISOString(), size_vram: 0 };
    });
}

/** What clients look `context_length` up by; a model's real architecture is not announced. */
const ARCHITECTURE = "gfe";
/** Ollama's own time to keep a model loaded. */
const KEPT_MS = 5 * 60_000;

type ModelOffers = NodeEntry["announcement"]["models"];

const offersOf = (nodes: readonly NodeEntry[], model: string): ModelOffers =>
  nodes.flatMap((node) => offeredAs(node, model));

const sinceOf = (nodes: readonly NodeEntry[]): string =>
  new Date(Math.min(...nodes.map(({ connectedAt }) => connectedAt.getTime()))).toISOString();

const GGUF_ENGINES: readonly string[] = ["ollama", "llama.cpp", "built-in"];

function detailsOf(offers: ModelOffers) {
  return {
    parent_model: "",
    format: offers.some(({ engine }) => GGUF_ENGINES.includes(engine)) ? "gguf" : "",
    family: ARCHITECTURE,
    families: [ARCHITECTURE],
    parameter_size: offers.find(({ parameters }) => parameters !== undefined)?.parameters ?? "",
    quantization_level: [...new Set(offers.flatMap(({ quantisation }) => quantisation ?? []))]
      .sort()
      .join(", "),
  };
}

const OLLAMA_WORDS: Partial<Record<Capability, string>> = {
  chat: "completion",
  embedding: "embedding",
  tools: "tools",
  vision: "vision",
  reasoning: "thinking",
};

function capabilitiesOf(offers: ModelOffers): string[] {
  const told = offers.flatMap(({ capabilities }) => capabilities.flatMap((one) => OLLAMA_WORDS[one] ?? []));
  return [...new Set(told)].sort();
}
