/** llama.cpp's own server: of one model, or a router that starts a server for each model that is asked for. */
import type { Capability } from "@gfe/protocol";
import { z } from "zod";
import { type EngineAddress, type EngineHost, inquire } from "../engine-http.ts";
import {
  type Bound,
  type Describe,
  type Entry,
  embeds,
  quantisationOf,
  shortCount,
  wholeContext,
} from "./known.ts";

const propsSchema = z.object({
  default_generation_settings: z.object({ n_ctx: z.number().nullish() }).nullish(),
  total_slots: z.number().int().positive().nullish(),
  model_ftype: z.string().nullish(),
  chat_template: z.string().nullish(),
  chat_template_caps: z.record(z.string(), z.unknown()).nullish(),
  modalities: z.object({ vision: z.boolean().nullish() }).nullish(),
  model_path: z.string().nullish(),
});
type Props = z.infer<typeof propsSchema>;

interface LlamaCppOptions {
  host: EngineHost;
  address: EngineAddress;
  /** How many the server lists: a server of several names the file of none. */
  models: number;
  digestOf?: (path: string) => Promise<string | null>;
  bound: Bound;
}

export async function describeLlamaCpp(options: LlamaCppOptions): Promise<Describe> {
  const { host, address, digestOf, bound } = options;
  const ask = async (query: string): Promise<Props | undefined> =>
    propsSchema.safeParse(await inquire(host, address, `/props${query}`, bound)).data;
  const ofServer = await ask("");
  return async (entry, before) => {
    if (entry.status?.failed) return null;
    // A model that is not loaded is not loaded for the asking: that would push out what the provider uses.
    const routed = entry.status
      ? await ask(`?model=${encodeURIComponent(entry.id)}&autoload=false`)
      : undefined;
    const props = entry.status ? routed : ofServer;
    const file = entry.status ? entry.path : options.models === 1 ? props?.model_path : null;
    const digest = file ? await digestOf?.(file) : null;
    const context =
      props?.default_generation_settings?.n_ctx || entry.meta?.n_ctx || entry.meta?.n_ctx_train || null;
    const capabilities = before?.capabilities ?? (await capabilitiesOf(options, entry, props));
    return {
      contextLength: wholeContext(context),
      capabilities,
      slots: props?.total_slots ?? 1,
      ...(props?.total_slots ? {} : { slotsAssumed: "this server does not tell its slots" }),
      ...(digest ? { digest } : {}),
      ...(props?.model_ftype ? { quantisation: props.model_ftype } : quantisationOf(entry.id)),
      ...(entry.meta?.n_params ? { parameters: shortCount(entry.meta.n_params) } : {}),
    };
  };
}

async function capabilitiesOf(
  { host, address, bound }: LlamaCppOptions,
  entry: Entry,
  props: Props | undefined,
): Promise<Capability[]> {
  if (await embeds(host, address, entry, bound)) return ["embedding"];
  const found: Capability[] = [
    "chat",
    "completion",
    "json_mode",
    "json_schema",
    "seed",
    "logprobs",
    "logit_bias",
  ];
  // Older servers tell nothing of tools; their template does.
  const caps = props?.chat_template_caps;
  if (caps ? caps.supports_tools === true : /\btools\b/.test(props?.chat_template ?? ""))
    found.push("tools", "tool_choice", "parallel_tool_calls");
  if (props?.modalities?.vision) found.push("vision");
  const thinks = /\b(enable_thinking|reasoning_effort)\b/.test(props?.chat_template ?? "");
  // A thought belongs before the answer: there is no going on behind the answer's beginning.
  if (thinks) found.push("reasoning");
  else if (props) found.push("continuation");
  return found;
}
