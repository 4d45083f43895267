/** A job's answer in the shape of Anthropic's messages: whole, or as its events. */
import type { ServerResponse } from "node:http";
import { type ChoiceDelta, type GfeError, toAnthropicError, type Usage } from "@gfe/protocol";
import type { JobOutcome, JobStart, Place } from "../../jobs/types.ts";
import { gfeWire } from "../inference/answer.ts";
import { type Block, type BlockListener, Blocks } from "../inference/blocks.ts";
import type { StreamedAnswer } from "../inference/serve.ts";
import { queuedComment } from "../inference/stream.ts";
import { StreamWriter } from "../inference/stream-writer.ts";
import { argumentsOf } from "../inference/tool-arguments.ts";

export interface MessageHead {
  id: string;
  model: string;
  /** Whether the caller wants the reasoning left out. */
  hideThinking: boolean;
  /** What the message's start says of its input; its end says what was counted. */
  inputTokensEstimate: number;
}

/**
 * Clients give a thinking block back only with a signature. Here it proves nothing: reasoning goes to the next node as
 * text, whoever wrote it.
 */
const SIGNATURE = "unsigned";

export function messageWire({ id, model, hideThinking }: MessageHead, blocks: Block[], outcome: JobOutcome) {
  return {
    ...emptyMessage(id, model),
    content: blocks.filter(({ type }) => !(hideThinking && type === "reasoning")).map(blockWire),
    ...stopWire(outcome, blocks),
    usage: usageWire(outcome.usage),
    x_gfe: gfeWire(outcome),
  };
}

const emptyMessage = (id: string, model: string) => ({
  id,
  type: "message",
  role: "assistant",
  model,
  content: [] as object[],
  stop_reason: null as string | null,
  stop_sequence: null,
});

function blockWire({ type, text, id, name }: Block): object {
  switch (type) {
    case "reasoning":
      return { type: "thinking", thinking: text, signature: SIGNATURE };
    case "text":
      return { type: "text", text };
    case "call":
      return { type: "tool_use", id, name, input: argumentsOf(text) };
  }
}

/**
 * Why it ended. Engines say `stop` at the end of a turn and at a stop sequence alike, and not which: both are
 * `end_turn` here.
 */
function stopWire({ finish }: JobOutcome, blocks: readonly Block[]) {
  return { stop_reason: stopReason(finish[0] ?? "stop", blocks), stop_sequence: null };
}

function stopReason(finish: JobOutcome["finish"][number], blocks: readonly Block[]): string {
  switch (finish) {
    case "length":
      return "max_tokens";
    case "content_filter":
      return "refusal";
    case "tool_calls":
    case "function_call":
      return "tool_use";
    case "stop":
      return blocks.some(({ type }) => type === "call") ? "tool_use" : "end_turn";
  }
}

/** Anthropic counts what came out of a cache apart from the rest of the input. */
function usageWire(usage: Usage) {
  return {
    input_tokens: usage.input_tokens - usage.cached_input_tokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: usage.cached_input_tokens,
    output_tokens: usage.output_tokens,
  };
}

export class MessageStream implements StreamedAnswer, BlockListener {
  readonly writer: StreamWriter;
  readonly #head: MessageHead;
  #blocks: Blocks;
  #begun = false;

  constructor(response: ServerResponse, head: MessageHead, headers: Record<string, string>) {
    this.#head = head;
    this.#blocks = new Blocks(this);
    this.writer = new StreamWriter({
      response,
      headers: { ...headers, "content-type": "text/event-stream; charset=utf-8" },
      keepAlive: event({ type: "ping" }),
    });
  }

  queued(place: Place): void {
    this.writer.write(queuedComment(place));
  }

  started(start: JobStart): void {
    this.#blocks = new Blocks(this);
    this.writer.nameJob(start);
  }

  text(text: string): void {
    this.#blocks.text(text);
  }

  reasoning(text: string): void {
    if (!this.#head.hideThinking) this.#blocks.reasoning(text);
  }

  choice({ reasoning, ...delta }: ChoiceDelta): void {
    const shown = reasoning === undefined || this.#head.hideThinking ? {} : { reasoning };
    this.#blocks.choice({ ...delta, ...shown });
  }

  embeddings(): void {}

  opened({ type, id, name }: Block, index: number): void {
    this.#begin();
    const content_block =
      type === "text"
        ? { type: "text", text: "" }
        : type === "reasoning"
          ? { type: "thinking", thinking: "", signature: "" }
          : { type: "tool_use", id, name, input: {} };
    this.#event({ type: "content_block_start", index, content_block });
  }

  said({ type }: Block, index: number, piece: string): void {
    // The hot path: a fixed head and tail around the text.
    this.writer.write(
      `event: content_block_delta\ndata: {"type":"content_block_delta","index":${index},"delta":${DELTA_HEADS[type]}${JSON.stringify(piece)}}}\n\n`,
    );
  }

  closed({ type }: Block, index: number): void {
    if (type === "reasoning")
      this.#event({
        type: "content_block_delta",
        index,
        delta: { type: "signature_delta", signature: SIGNATURE },
      });
    this.#event({ type: "content_block_stop", index });
  }

  finish(outcome: JobOutcome): void {
    this.#begin();
    this.#blocks.end();
    this.#event({
      type: "message_delta",
      delta: stopWire(outcome, this.#blocks.all),
      usage: usageWire(outcome.usage),
      x_gfe: gfeWire(outcome),
    });
    this.#event({ type: "message_stop" });
    this.writer.end();
  }

  fail(error: GfeError, outcome?: JobOutcome): void {
    this.#event({ ...toAnthropicError(error), ...(outcome ? { x_gfe: gfeWire(outcome) } : {}) });
    this.writer.end();
  }

  /** With the first piece, not before: until then a failure still has its HTTP status. */
  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { id, model, inputTokensEstimate: input_tokens } = this.#head;
    const usage = {
      input_tokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens: 0,
    };
    this.#event({ type: "message_start", message: { ...emptyMessage(id, model), usage } });
  }

  #event(data: Event): void {
    this.writer.write(event(data));
  }
}

interface Event {
  type: string;
  [member: string]: unknown;
}

const DELTA_HEADS = {
  text: '{"type":"text_delta","text":',
  reasoning: '{"type":"thinking_delta","thinking":',
  call: '{"type":"input_json_delta","partial_json":',
} satisfies Record<Block["type"], string>;

const event = (data: Event): string => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;
