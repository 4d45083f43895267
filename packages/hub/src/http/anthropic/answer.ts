/** A job's answer as Anthropic's message: whole, or as its stream of events. */
import type { ServerResponse } from "node:http";
import {
  type ChoiceDelta,
  type FinishReason,
  type GfeError,
  toAnthropicError,
  type Usage,
} from "@gfe/protocol";
import type { JobOutcome, JobStart, Place } from "../../jobs/types.ts";
import type { Gatherer } from "../inference/answer.ts";
import type { StreamedAnswer } from "../inference/serve.ts";
import { queuedComment } from "../inference/stream.ts";
import { StreamWriter } from "../inference/stream-writer.ts";
import { argumentsOf } from "../inference/tool-arguments.ts";

export interface MessageHead {
  id: string;
  model: string;
  /** Until the node has counted. */
  inputTokensEstimate: number;
}

/** An engine that stopped does not tell whether at a stop sequence: that is the end of a turn here. */
const STOP_REASONS: Record<FinishReason, string> = {
  stop: "end_turn",
  length: "max_tokens",
  tool_calls: "tool_use",
  function_call: "tool_use",
  content_filter: "refusal",
};

const stopReasonOf = ({ finish }: JobOutcome): string => STOP_REASONS[finish[0] ?? "stop"];

/** Anthropic counts input that was read from a cache apart. */
const usageWire = (usage: Usage) => ({
  input_tokens: usage.input_tokens - usage.cached_input_tokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: usage.cached_input_tokens,
  output_tokens: usage.output_tokens,
});

const messageWire = ({ id, model }: MessageHead) => ({
  ...{ id, model },
  type: "message",
  role: "assistant",
});

export function wholeMessage(head: MessageHead, gathered: Gatherer, outcome: JobOutcome): object {
  const [choice] = gathered.chatAnswer({ id: "", created: 0, model: head.model }, outcome).choices;
  const { content, reasoning_content: thought, tool_calls: calls = [] } = choice!.message;
  return {
    ...messageWire(head),
    content: [
      ...(thought ? [{ type: "thinking", thinking: thought, signature: "" }] : []),
      ...(content ? [{ type: "text", text: content }] : []),
      ...calls.map(({ id, function: { name, arguments: text } }) => ({
        type: "tool_use",
        id,
        name,
        input: argumentsOf(text),
      })),
    ],
    stop_reason: stopReasonOf(outcome),
    stop_sequence: null,
    usage: usageWire(outcome.usage),
  };
}

interface Call {
  /** Null until its name is known: a block begins with it. */
  block: number | null;
  id: string;
  name: string;
  waiting: string;
}

/**
 * Blocks of text and of thought follow one another; calls of tools, whose pieces engines may mix, stay open to the end.
 */
export class MessageStream implements StreamedAnswer {
  readonly writer: StreamWriter;
  readonly #head: MessageHead;
  #begun = false;
  #blocks = 0;
  #open: { kind: "text" | "thinking"; index: number } | null = null;
  readonly #calls = new Map<number, Call>();

  constructor(response: ServerResponse, head: MessageHead, headers: Record<string, string>) {
    this.#head = head;
    this.writer = new StreamWriter({
      response,
      headers: { ...headers, "content-type": "text/event-stream; charset=utf-8" },
      keepAlive: 'event: ping\ndata: {"type":"ping"}\n\n',
    });
  }

  queued(place: Place): void {
    this.writer.write(queuedComment(place));
  }

  started(start: JobStart): void {
    this.writer.nameJob(start);
  }

  text(text: string): void {
    this.#say("text", text);
  }

  reasoning(text: string): void {
    this.#say("thinking", text);
  }

  choice({ content, reasoning, tool_calls: calls = [] }: ChoiceDelta): void {
    if (reasoning) this.#say("thinking", reasoning);
    if (content) this.#say("text", content);
    for (const call of calls) this.#call(call);
  }

  embeddings(): void {}

  finish(outcome: JobOutcome): void {
    this.#begin();
    this.#close();
    for (const { block } of this.#calls.values())
      if (block !== null) this.#event("content_block_stop", { index: block });
    this.#event("message_delta", {
      delta: { stop_reason: stopReasonOf(outcome), stop_sequence: null },
      usage: usageWire(outcome.usage),
    });
    this.#event("message_stop", {});
    this.writer.end();
  }

  fail(error: GfeError): void {
    this.writer.write(`event: error\ndata: ${JSON.stringify(toAnthropicError(error))}\n\n`);
    this.writer.end();
  }

  #say(kind: "text" | "thinking", said: string): void {
    if (this.#open?.kind !== kind) {
      this.#close();
      const block = kind === "text" ? { type: kind, text: "" } : { type: kind, thinking: "", signature: "" };
      this.#open = { kind, index: this.#start(block) };
    }
    const delta =
      kind === "text" ? { type: "text_delta", text: said } : { type: "thinking_delta", thinking: said };
    this.#event("content_block_delta", { index: this.#open.index, delta });
  }

  #call({ index, id, function: given }: NonNullable<ChoiceDelta["tool_calls"]>[number]): void {
    const call = this.#calls.get(index) ?? { block: null, id: "", name: "", waiting: "" };
    this.#calls.set(index, call);
    call.id ||= id ?? "";
    call.waiting += given?.arguments ?? "";
    if (call.block === null) {
      call.name += given?.name ?? "";
      if (call.name === "") return;
      this.#close();
      call.block = this.#start({ type: "tool_use", id: call.id, name: call.name, input: {} });
    }
    if (call.waiting === "") return;
    const delta = { type: "input_json_delta", partial_json: call.waiting };
    call.waiting = "";
    this.#event("content_block_delta", { index: call.block, delta });
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const usage = { input_tokens: this.#head.inputTokensEstimate, output_tokens: 0 };
    const message = {
      ...messageWire(this.#head),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      usage,
    };
    this.#event("message_start", { message });
  }

  #start(block: object): number {
    this.#begin();
    this.#event("content_block_start", { index: this.#blocks, content_block: block });
    return this.#blocks++;
  }

  #close(): void {
    if (this.#open) this.#event("content_block_stop", { index: this.#open.index });
    this.#open = null;
  }

  #event(type: string, fields: object): void {
    this.writer.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`);
  }
}
