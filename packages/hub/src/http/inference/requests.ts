/** From a checked body to what jobs/ runs: what it needs of a node, and the bounds that are held. */
import type { JobRequest, Payer } from "../../jobs/types.ts";
import { priorityOfTier } from "./priority.ts";
import { type ChatBody, type CompletionBody, type EmbeddingsBody, hintNames } from "./schemas.ts";
import { type ProviderBody, steeringOf } from "./steering.ts";

/** Tokens that a chat template may add for each message, and around all of them. */
const TEMPLATE_TOKENS = { perMessage: 16, around: 64 };
/** What one image may count as, whatever its bytes. */
const IMAGE_TOKENS_MAX = 4096;

export function chatRequest(body: ChatBody, payer: Payer): JobRequest {
  const measured = measureChat(body);
  const maxOutputTokens = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  return {
    kind: "chat",
    model: body.model,
    body: forEngine(body, ["max_completion_tokens"]),
    payer,
    inputBytes: measured.bytes,
    inputTokensMax:
      measured.bytes +
      measured.images * IMAGE_TOKENS_MAX +
      body.messages.length * TEMPLATE_TOKENS.perMessage +
      TEMPLATE_TOKENS.around,
    ...steered(body),
    ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
    whole: body.stream !== true,
    priority: priorityOfTier(body.service_tier),
    choices: body.n ?? 1,
    needs: chatNeeds(body, measured.images > 0),
  };
}

export function completionRequest(body: CompletionBody, payer: Payer): JobRequest {
  const bytes = Buffer.byteLength(body.prompt);
  return {
    kind: "completion",
    model: body.model,
    body: forEngine(body, ["echo", "suffix", "best_of"]),
    payer,
    inputBytes: bytes,
    inputTokensMax: bytes + TEMPLATE_TOKENS.around,
    ...steered(body),
    ...(body.max_tokens == null ? {} : { maxOutputTokens: body.max_tokens }),
    whole: body.stream !== true,
    priority: priorityOfTier(body.service_tier),
    choices: body.n ?? 1,
    needs: ["completion", ...samplingNeeds(body)],
  };
}

export function embeddingsRequest(body: EmbeddingsBody, payer: Payer): JobRequest {
  const inputs = typeof body.input === "string" ? [body.input] : body.input;
  const bytes = inputs.reduce((sum, input) => sum + Buffer.byteLength(input), 0);
  return {
    kind: "embedding",
    model: body.model,
    body: { model: body.model, input: inputs },
    payer,
    inputBytes: bytes,
    inputTokensMax: bytes + inputs.length * TEMPLATE_TOKENS.perMessage,
    ...steered(body),
    whole: true,
    priority: priorityOfTier(body.service_tier),
    choices: 1,
    needs: ["embedding"],
  };
}

function steered({ provider }: { provider?: ProviderBody | null | undefined }): Pick<JobRequest, "steering"> {
  const steering = steeringOf(provider);
  return steering ? { steering } : {};
}

function chatNeeds(body: ChatBody, images: boolean): string[] {
  const needs = ["chat"];
  const choice = body.tool_choice;
  if (body.tools && body.tools.length > 0 && choice !== "none") {
    needs.push("tools");
    if (choice !== undefined && choice !== "auto") needs.push("tool_choice");
    if (body.parallel_tool_calls === false) needs.push("parallel_tool_calls");
  }
  if (images) needs.push("vision");
  if (body.response_format?.type === "json_object") needs.push("json_mode");
  if (body.response_format?.type === "json_schema") needs.push("json_schema");
  if (body.logprobs) needs.push("logprobs");
  if (body.reasoning_effort != null && body.reasoning_effort !== "none") needs.push("reasoning");
  return [...needs, ...samplingNeeds(body)];
}

function samplingNeeds({ n, logit_bias: bias }: Pick<ChatBody, "n" | "logit_bias">): string[] {
  const needs: string[] = [];
  if ((n ?? 1) > 1) needs.push("multiple_choices");
  if (bias && Object.keys(bias).length > 0) needs.push("logit_bias");
  return needs;
}

function measureChat(body: ChatBody): { bytes: number; images: number } {
  let bytes = body.tools ? Buffer.byteLength(JSON.stringify(body.tools)) : 0;
  if (body.response_format?.type === "json_schema")
    bytes += Buffer.byteLength(JSON.stringify(body.response_format));
  let images = 0;
  for (const message of body.messages) {
    const { content } = message;
    if (typeof content === "string") bytes += Buffer.byteLength(content);
    else {
      for (const part of content ?? []) {
        if (part.type === "text") bytes += Buffer.byteLength(part.text);
        else images++;
      }
    }
    if (message.role === "assistant" && message.tool_calls)
      bytes += Buffer.byteLength(JSON.stringify(message.tool_calls));
  }
  return { bytes, images };
}

/** The body without hints, nulls and what the hub itself answers for. */
function forEngine(body: object, drop: readonly string[]): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body)) {
    if (value == null || hintNames.has(name) || drop.includes(name)) continue;
    if (["provider", "stream", "stream_options", "usage"].includes(name)) continue;
    if (name === "logit_bias" && Object.keys(value).length === 0) continue;
    kept[name] = value;
  }
  return kept;
}
