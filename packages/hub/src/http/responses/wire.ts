/** A response and its items as OpenAI writes them: pure functions. */
import { type GfeError, toOpenAiError } from "@gfe/protocol";
import type { JobOutcome } from "../../jobs/types.ts";
import { gfeWire } from "../inference/answer.ts";
import type { Block } from "../inference/blocks.ts";
import { outputItemId } from "./ids.ts";
import type { ResponsesBody } from "./schemas.ts";
import type { KeptItem } from "./store.ts";

export interface ResponseHead {
  id: string;
  /** Seconds since 1970. */
  createdAt: number;
  asked: ResponsesBody;
}

export type ItemStatus = "in_progress" | "completed" | "incomplete";
export type ResponseWire = ReturnType<typeof responseWire>;

const ID_PREFIXES = { text: "msg", reasoning: "rs", call: "fc" } satisfies Record<Block["type"], string>;

/** The item that a block is: while it is in progress, without what will be said. */
export function itemWire(
  { id: responseId }: ResponseHead,
  block: Block,
  index: number,
  status: ItemStatus,
): KeptItem {
  const id = outputItemId(responseId, ID_PREFIXES[block.type], index);
  const begun = status === "in_progress";
  switch (block.type) {
    case "text":
      return { id, type: "message", role: "assistant", status, content: begun ? [] : [textPart(block)] };
    case "reasoning":
      return { id, type: "reasoning", summary: begun ? [] : [thoughtPart(block)] };
    case "call":
      return {
        ...{ id, type: "function_call", status, call_id: block.id, name: block.name },
        arguments: begun ? "" : block.text,
      };
  }
}

export const textPart = ({ text, logprobs }: Pick<Block, "text" | "logprobs">) => ({
  ...{ type: "output_text", text, annotations: [], logprobs },
});
export const thoughtPart = ({ text }: Pick<Block, "text">) => ({ type: "summary_text", text });

/** What was asked, as OpenAI repeats it, and what came of it so far. */
export function responseWire(
  { id, createdAt, asked }: ResponseHead,
  status: string,
  output: readonly KeptItem[],
) {
  return {
    ...{ id, object: "response", created_at: createdAt, status, model: asked.model, output },
    background: false,
    error: null as object | null,
    incomplete_details: null as object | null,
    instructions: asked.instructions ?? null,
    max_output_tokens: asked.max_output_tokens ?? null,
    metadata: asked.metadata ?? {},
    parallel_tool_calls: asked.parallel_tool_calls ?? true,
    previous_response_id: asked.previous_response_id ?? null,
    reasoning: { effort: asked.reasoning?.effort ?? null, summary: asked.reasoning?.summary ?? null },
    service_tier: "default",
    /** True once it was kept. */
    store: false,
    temperature: asked.temperature ?? null,
    text: { format: asked.text?.format ?? { type: "text" } },
    tool_choice: asked.tool_choice ?? "auto",
    tools: asked.tools ?? [],
    top_logprobs: asked.top_logprobs ?? 0,
    top_p: asked.top_p ?? null,
    truncation: "disabled",
    usage: null as object | null,
    user: asked.user ?? null,
  };
}

const CUT: Record<string, string> = { length: "max_output_tokens", content_filter: "content_filter" };
/** Why an answer is not whole, in OpenAI's word; undefined where it is. */
export const cutReason = ({ finish }: JobOutcome): string | undefined => CUT[finish[0] ?? "stop"];

export function endedWire(head: ResponseHead, output: readonly KeptItem[], outcome: JobOutcome) {
  const reason = cutReason(outcome);
  const { usage } = outcome;
  return {
    ...responseWire(head, reason ? "incomplete" : "completed", output),
    incomplete_details: reason ? { reason } : null,
    usage: {
      input_tokens: usage.input_tokens,
      input_tokens_details: { cached_tokens: usage.cached_input_tokens },
      output_tokens: usage.output_tokens,
      output_tokens_details: { reasoning_tokens: usage.reasoning_tokens },
      total_tokens: usage.input_tokens + usage.output_tokens,
    },
    x_gfe: gfeWire(outcome),
  };
}

export function failedWire(head: ResponseHead, output: readonly KeptItem[], error: GfeError) {
  const { code, message } = toOpenAiError(error).error;
  return { ...responseWire(head, "failed", output), error: { code, message } };
}

/** The items of a whole answer; the last of one that was cut is not whole. */
export function itemsOf(head: ResponseHead, blocks: readonly Block[], outcome: JobOutcome): KeptItem[] {
  const last = cutReason(outcome) ? blocks.length - 1 : -1;
  return blocks.map((block, index) =>
    itemWire(head, block, index, index === last ? "incomplete" : "completed"),
  );
}
