/** A job's answer in Ollama's shape: lines of JSON, or the same gathered in one. */
import type { ServerResponse } from "node:http";
import { type ChoiceDelta, type GfeError, toOllamaError } from "@gfe/protocol";
import type { JobOutcome, JobStart } from "../../jobs/types.ts";
import { gfeWire } from "../inference/answer.ts";
import type { StreamedAnswer } from "../inference/serve.ts";
import { StreamWriter } from "../inference/stream-writer.ts";
import { argumentsOf } from "../inference/tool-arguments.ts";

export interface OllamaHead {
  shape: "chat" | "generate";
  /** As the caller named it. */
  model: string;
  /** For `created_at` and the durations. */
  nowMs: () => number;
  startedMs: number;
}

export type TokenLogprobs = NonNullable<ChoiceDelta["logprobs"]>["content"];

export interface Said {
  content: string;
  thinking?: string;
  toolCalls?: OllamaToolCall[];
  logprobs?: TokenLogprobs;
}

export interface OllamaToolCall {
  id: string;
  function: { index: number; name: string; arguments: Record<string, unknown> };
}

/** The stream: Ollama knows no keep-alive, for its clients warn of an empty line, so silence stays silent. */
export class OllamaStream implements StreamedAnswer {
  readonly writer: StreamWriter;
  readonly #head: OllamaHead;
  readonly #calls = new ToolCalls();

  constructor(response: ServerResponse, head: OllamaHead, headers: Record<string, string>) {
    this.#head = head;
    this.writer = new StreamWriter({
      response,
      headers: { ...headers, "content-type": "application/x-ndjson" },
    });
  }

  started(start: JobStart): void {
    this.#calls.clear();
    this.writer.nameJob(start);
  }

  text(content: string): void {
    this.#say({ content });
  }

  reasoning(thinking: string): void {
    this.#say({ content: "", thinking });
  }

  choice({ content = "", reasoning, tool_calls: toolCalls = [], logprobs }: ChoiceDelta): void {
    this.#calls.add(toolCalls);
    if (content === "" && reasoning === undefined && !logprobs) return;
    this.#say({
      content,
      ...(reasoning === undefined ? {} : { thinking: reasoning }),
      ...(logprobs ? { logprobs: logprobs.content } : {}),
    });
  }

  embeddings(): void {}

  finish(outcome: JobOutcome): void {
    const calls = this.#calls.whole();
    if (calls.length > 0) this.#say({ content: "", toolCalls: calls });
    this.#line({ ...saidWire(this.#head, { content: "" }), ...endWire(this.#head, outcome) });
    this.writer.end();
  }

  fail(error: GfeError, outcome?: JobOutcome): void {
    this.#line({ ...toOllamaError(error), ...(outcome ? { x_gfe: gfeWire(outcome) } : {}) });
    this.writer.end();
  }

  #say(said: Said): void {
    this.#line({ ...saidWire(this.#head, said), done: false });
  }

  #line(line: object): void {
    this.writer.write(`${JSON.stringify(line)}\n`);
  }
}

/** Ollama gives a call in one piece, with an object for arguments; engines stream them as pieces of text. */
export class ToolCalls {
  readonly #calls: { id: string; name: string; text: string }[] = [];

  clear(): void {
    this.#calls.length = 0;
  }

  add(pieces: NonNullable<ChoiceDelta["tool_calls"]>): void {
    for (const { index, id, function: given } of pieces) {
      this.#calls[index] ??= { id: "", name: "", text: "" };
      const call = this.#calls[index]!;
      call.id ||= id ?? "";
      call.name += given?.name ?? "";
      call.text += given?.arguments ?? "";
    }
  }

  whole(): OllamaToolCall[] {
    return this.#calls
      .filter(Boolean)
      .map(({ id, name, text }, index) => ({ id, function: { index, name, arguments: argumentsOf(text) } }));
  }
}

/** What was said, without whether it is the end. */
export function saidWire({ shape, model, nowMs }: OllamaHead, said: Said): object {
  const thinking = said.thinking ? { thinking: said.thinking } : {};
  const calls = said.toolCalls && said.toolCalls.length > 0 ? { tool_calls: said.toolCalls } : {};
  return {
    model,
    created_at: new Date(nowMs()).toISOString(),
    ...(shape === "chat"
      ? { message: { role: "assistant", content: said.content, ...thinking, ...calls } }
      : { response: said.content, ...thinking, ...calls }),
    ...(said.logprobs && said.logprobs.length > 0 ? { logprobs: said.logprobs } : {}),
  };
}

const NS_PER_MS = 1e6;

/** The end of a completed job: why it ended, what it used, in Ollama's nanoseconds. */
export function endWire({ nowMs, startedMs }: OllamaHead, outcome: JobOutcome): object {
  const totalMs = nowMs() - startedMs;
  const firstMs = Math.min(outcome.ttftMs ?? totalMs, totalMs);
  return {
    done: true,
    done_reason: outcome.finish[0] === "length" ? "length" : "stop",
    total_duration: Math.round(totalMs * NS_PER_MS),
    load_duration: 0,
    prompt_eval_count: outcome.usage.input_tokens,
    prompt_eval_duration: Math.round(firstMs * NS_PER_MS),
    eval_count: outcome.usage.output_tokens,
    eval_duration: Math.round((totalMs - firstMs) * NS_PER_MS),
    x_gfe: gfeWire(outcome),
  };
}
