/** What the descriptions of all servers of OpenAI's API share. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import type { DiscoveredModel } from "../engine.ts";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";

export const FALLBACK_CONTEXT = 4096;
/** One request with two or three tokens, at most once for each model. */
const PROBE_TIMEOUT_MS = 20_000;
const EMBEDDER = /embed|\bbge\b|bge-|\be5-|gte-|minilm/i;

export type ListedModel = DiscoveredModel & {
  /** The server's own name for it. */
  id: string;
};

/** All that a server tells of a model but its name. */
export type Known = Omit<DiscoveredModel, "name">;

export const entrySchema = z.object({
  id: z.string().min(1),
  max_model_len: z.number().int().positive().nullish(),
  meta: z
    .object({
      n_ctx: z.number().nullish(),
      n_ctx_train: z.number().nullish(),
      n_params: z.number().nullish(),
    })
    .nullish(),
  /** llama.cpp's router of several models. */
  status: z.object({ value: z.string(), failed: z.boolean().nullish() }).nullish(),
  path: z.string().nullish(),
});
export type Entry = z.infer<typeof entrySchema>;

export type Bound = { signal?: AbortSignal };
/** Null for a model that is not to be offered. */
export type Describe = (entry: Entry, before: ListedModel | undefined) => Promise<Known | null>;

export const wholeContext = (told: number | null | undefined): number =>
  Math.max(1, Math.floor(told || FALLBACK_CONTEXT));

/** Whether a model whose name says so gives vectors: asked, not guessed. */
export async function embeds(
  host: EngineHost,
  address: EngineAddress,
  { id }: Entry,
  bound: Bound,
): Promise<boolean> {
  if (!EMBEDDER.test(id)) return false;
  const body = { model: id, input: ["a"] };
  const answer = await probe(host, address, "/v1/embeddings", body, bound);
  return z.object({ data: z.array(z.unknown()).min(1) }).safeParse(answer).success;
}

/** The answer to a tiny request; null where the server refuses it. */
export const probe = (
  host: EngineHost,
  address: EngineAddress,
  path: string,
  body: object,
  bound: Bound,
): Promise<unknown> => inquire(host, address, path, { body, timeoutMs: PROBE_TIMEOUT_MS, ...bound });

/** What is known of a model of which its server tells nothing. */
export async function plainCapabilities(
  host: EngineHost,
  address: EngineAddress,
  entry: Entry,
  bound: Bound,
): Promise<Capability[]> {
  return (await embeds(host, address, entry, bound)) ? ["embedding"] : ["chat", "completion"];
}

const IN_NAME =
  /(?:^|[-._])((?:UD-)?I?Q\d(?:_[A-Z0-9]+)*|BF16|F16|F32|FP8|NVFP4|MXFP4|AWQ|GPTQ|INT[48]|\d(?:\.\d+)?bpw)(?:$|[-._])/i;

/** The quantisation that a model's name tells, as model files are customarily named. */
export function quantisationOf(name: string): Pick<DiscoveredModel, "quantisation"> {
  const told = IN_NAME.exec(name.replace(/\.gguf$/i, ""))?.[1];
  if (told === undefined) return {};
  return { quantisation: /bpw$/i.test(told) ? told.toLowerCase() : told.toUpperCase() };
}

/** 7_241_732_096 → "7.2B" */
export function shortCount(count: number): string {
  for (const [unit, size] of [
    ["B", 1e9],
    ["M", 1e6],
    ["K", 1e3],
  ] as const)
    if (count >= size) return `${(count / size).toFixed(1).replace(/\.0$/, "")}${unit}`;
  return String(Math.round(count));
}
