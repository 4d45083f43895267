/** The shapes of answers on /v1, whole and in chunks. */
import { type ChoiceDelta, type EmbeddingsDelta, formatCredits, type Usage } from "@gfe/protocol";
import { quoteWire } from "../../billing/quote.ts";
import type { JobOutcome, JobSink } from "../../jobs/types.ts";

export interface AnswerHead {
  id: string;
  created: number;
  model: string;
}

/** OpenAI's usage object. */
export function usageWire(usage: Usage) {
  return {
    prompt_tokens: usage.input_tokens,
    completion_tokens: usage.output_tokens,
    total_tokens: usage.input_tokens + usage.output_tokens,
    prompt_tokens_details: { cached_tokens: usage.cached_input_tokens },
    completion_tokens_details: { reasoning_tokens: usage.reasoning_tokens },
  };
}

/**
 * What the answer cost, by which quote and for what usage, and who gave it: an extra field, safe with every probed
 * client. Of `cost_micro` the operator keeps `fee_micro`, the provider gets `provider_micro`.
 */
export function gfeWire(outcome: JobOutcome) {
  return {
    job_id: outcome.jobId,
    node_id: outcome.nodeId,
    node_name: outcome.nodeName,
    /** More than one where a node went on with what another began. */
    nodes: outcome.nodes,
    cost_micro: outcome.costMicro.toString(),
    fee_micro: outcome.feeMicro.toString(),
    provider_micro: (outcome.costMicro - outcome.feeMicro).toString(),
    cost_credits: formatCredits(outcome.costMicro),
    quote: quoteWire(outcome.quote),
    usage: outcome.usage,
  };
}

interface Gathered {
  content: string;
  reasoning: string;
  toolCalls: { id: string; type: "function"; function: { name: string; arguments: string } }[];
  logprobs: NonNullable<ChoiceDelta["logprobs"]>["content"];
}

/** A sink that gathers a whole answer, for callers that do not stream. */
export class Gatherer implements JobSink {
  readonly #choices = new Map<number, Gathered>();
  vectors: string[] = [];

  started(): void {
    this.#choices.clear();
    this.vectors = [];
  }
  text(text: string): void {
    this.#choice(0).content += text;
  }
  reasoning(text: string): void {
    this.#choice(0).reasoning += text;
  }
  choice(delta: ChoiceDelta): void {
    const choice = this.#choice(delta.index);
    choice.content += delta.content ?? "";
    choice.reasoning += delta.reasoning ?? "";
    for (const call of delta.tool_calls ?? []) {
      choice.toolCalls[call.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } };
      const known = choice.toolCalls[call.index]!;
      known.id ||= call.id ?? "";
      known.function.name += call.function?.name ?? "";
      known.function.arguments += call.function?.arguments ?? "";
    }
    if (delta.logprobs) choice.logprobs.push(...delta.logprobs.content);
  }
  embeddings({ vectors }: EmbeddingsDelta): void {
    this.vectors.push(...vectors);
  }

  /** What the first choice said; a call that an engine skipped leaves a hole in `toolCalls`. */
  get first(): Readonly<Gathered> {
    return this.#choice(0);
  }

  chatAnswer(head: AnswerHead, outcome: JobOutcome) {
    return {
      ...head,
      object: "chat.completion",
      choices: this.#inOrder(outcome).map(([index, choice]) => ({
        index,
        message: {
          role: "assistant",
          content: choice.content === "" && choice.toolCalls.length > 0 ? null : choice.content,
          refusal: null,
          ...(choice.reasoning === "" ? {} : { reasoning_content: choice.reasoning }),
          ...(choice.toolCalls.length === 0 ? {} : { tool_calls: choice.toolCalls.filter(Boolean) }),
        },
        logprobs: choice.logprobs.length === 0 ? null : { content: choice.logprobs },
        finish_reason: outcome.finish[index] ?? "stop",
      })),
      usage: usageWire(outcome.usage),
      x_gfe: gfeWire(outcome),
    };
  }

  completionAnswer(head: AnswerHead, outcome: JobOutcome) {
    return {
      ...head,
      object: "text_completion",
      choices: this.#inOrder(outcome).map(([index, choice]) => ({
        index,
        text: choice.content,
        logprobs: null,
        finish_reason: outcome.finish[index] ?? "stop",
      })),
      usage: usageWire(outcome.usage),
      x_gfe: gfeWire(outcome),
    };
  }

  embeddingsAnswer(model: string, format: "float" | "base64", outcome: JobOutcome) {
    return {
      object: "list",
      model,
      data: this.vectors.map((base64, index) => ({
        object: "embedding",
        index,
        embedding: format === "base64" ? base64 : floatsOf(base64),
      })),
      usage: { prompt_tokens: outcome.usage.input_tokens, total_tokens: outcome.usage.input_tokens },
      x_gfe: gfeWire(outcome),
    };
  }

  #inOrder(outcome: JobOutcome): [number, Gathered][] {
    for (let index = 0; index < Math.max(1, outcome.finish.length); index++) this.#choice(index);
    return [...this.#choices].sort(([a], [b]) => a - b);
  }

  #choice(index: number): Gathered {
    let choice = this.#choices.get(index);
    if (!choice) {
      choice = { content: "", reasoning: "", toolCalls: [], logprobs: [] };
      this.#choices.set(index, choice);
    }
    return choice;
  }
}

/** Little-endian float32 in base64 → numbers. */
function floatsOf(base64: string): number[] {
  const bytes = Buffer.from(base64, "base64");
  const floats: number[] = new Array(Math.floor(bytes.byteLength / 4));
  for (let i = 0; i < floats.length; i++) floats[i] = bytes.readFloatLE(i * 4);
  return floats;
}
