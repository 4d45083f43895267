/** vLLM: the length of its context is in its list; what it can do is not, so it is asked once. */
import type { Capability } from "@gfe/protocol";
import type { EngineAddress, EngineHost } from "../engine-http.ts";
import {
  type Bound,
  type Describe,
  type Entry,
  embeds,
  probe,
  quantisationOf,
  wholeContext,
} from "./known.ts";

/** vLLM batches what comes; this is what it gets at once unless the provider says otherwise. */
const VLLM_SLOTS = 16;

export function describeVllm(host: EngineHost, address: EngineAddress, bound: Bound): Describe {
  return async (entry, before) => ({
    contextLength: wholeContext(entry.max_model_len),
    capabilities: before?.capabilities ?? (await probeVllm(host, address, entry, bound)),
    slots: VLLM_SLOTS,
    slotsAssumed: "vLLM batches what comes and does not tell --max-num-seqs",
    ...quantisationOf(entry.id),
  });
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
  const answer = await probe(host, address, "/v1/chat/completions", body, bound).catch(() => null);
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
