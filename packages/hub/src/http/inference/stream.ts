/** A job's answer as OpenAI's server-sent events: a chunk is a fixed head, the delta as JSON, a fixed tail, and no more. */
import type { ServerResponse } from "node:http";
import { type ChoiceDelta, type FinishReason, type GfeError, toOpenAiError } from "@gfe/protocol";
import type { JobOutcome, JobStart, Place } from "../../jobs/types.ts";
import { type AnswerHead, gfeWire, usageWire } from "./answer.ts";
import type { StreamedAnswer } from "./serve.ts";
import { StreamWriter } from "./stream-writer.ts";

export interface StreamOptions {
  response: ServerResponse;
  head: AnswerHead;
  shape: "chat" | "completion";
  includeUsage: boolean;
  headers: Record<string, string>;
}

export class AnswerStream implements StreamedAnswer {
  readonly writer: StreamWriter;
  readonly #options: StreamOptions;
  readonly #chunkStart: string;
  readonly #textHead: string;
  readonly #textTail: string;
  readonly #begun = new Set<number>();

  constructor(options: StreamOptions) {
    this.#options = options;
    this.writer = new StreamWriter({
      response: options.response,
      headers: { ...options.headers, "content-type": "text/event-stream; charset=utf-8" },
      keepAlive: ": keep-alive\n\n",
    });
    const start = chunkStart(options);
    this.#chunkStart = start;
    this.#textHead =
      options.shape === "chat"
        ? `${start}"choices":[{"index":0,"delta":{"content":`
        : `${start}"choices":[{"index":0,"text":`;
    const usage = options.includeUsage ? ',"usage":null' : "";
    this.#textTail =
      options.shape === "chat"
        ? `},"logprobs":null,"finish_reason":null}]${usage}}\n\n`
        : `,"logprobs":null,"finish_reason":null}]${usage}}\n\n`;
  }

  /**
   * A comment, which every client skips. It takes the headers with it: a wait that ends without a slot then ends in an
   * error chunk instead of a 503, as any later failure does.
   */
  queued(place: Place): void {
    this.writer.write(queuedComment(place));
  }

  started(start: JobStart): void {
    this.writer.nameJob(start);
  }

  text(text: string): void {
    if (this.#options.shape === "chat" && !this.#begun.has(0))
      return this.choice({ index: 0, content: text });
    this.writer.write(`${this.#textHead}${JSON.stringify(text)}${this.#textTail}`);
  }

  reasoning(text: string): void {
    this.choice({ index: 0, reasoning: text });
  }

  choice({ index, content, reasoning, tool_calls, logprobs }: ChoiceDelta): void {
    if (this.#options.shape === "completion") {
      if (content !== undefined) this.#chunk([{ index, text: content, logprobs: null, finish_reason: null }]);
      return;
    }
    const role = this.#begun.has(index) ? {} : { role: "assistant" };
    this.#begun.add(index);
    const delta = { ...role, content, reasoning_content: reasoning, tool_calls };
    this.#chunk([{ index, delta, logprobs: logprobs ?? null, finish_reason: null }]);
  }

  embeddings(): void {}

  /** The end of a completed job. */
  finish(outcome: JobOutcome): void {
    const finish: FinishReason[] = outcome.finish.length > 0 ? outcome.finish : ["stop"];
    for (const [index, finish_reason] of finish.entries()) {
      const part =
        this.#options.shape === "chat"
          ? { delta: this.#begun.has(index) ? {} : { role: "assistant", content: "" } }
          : { text: "" };
      this.#chunk([{ index, ...part, logprobs: null, finish_reason }]);
    }
    if (this.#options.includeUsage) this.#usage(outcome);
    this.writer.write("data: [DONE]\n\n");
    this.writer.end();
  }

  /** The end of a broken one, after its headers went: an error chunk, which every probed client raises. */
  fail(error: GfeError, outcome?: JobOutcome): void {
    const extra = outcome ? { x_gfe: gfeWire(outcome), usage: usageWire(outcome.usage) } : {};
    this.writer.write(`data: ${JSON.stringify({ ...toOpenAiError(error), ...extra })}\n\n`);
    this.writer.end();
  }

  #usage(outcome: JobOutcome): void {
    this.writer.write(
      `${this.#chunkStart}"choices":[],"usage":${JSON.stringify(usageWire(outcome.usage))},"x_gfe":${JSON.stringify(gfeWire(outcome))}}\n\n`,
    );
  }

  #chunk(choices: object[]): void {
    const usage = this.#options.includeUsage ? ',"usage":null' : "";
    this.writer.write(`${this.#chunkStart}"choices":${JSON.stringify(choices)}${usage}}\n\n`);
  }
}

/** A waiting job's place as a comment of server-sent events. */
export function queuedComment({ position, estimateMs }: Place): string {
  const estimate = estimateMs === null ? "" : ` estimate=${Math.ceil(estimateMs / 1000)}s`;
  return `: queued position=${position}${estimate}\n\n`;
}

/** What every chunk of an answer begins with. */
function chunkStart({ head, shape }: StreamOptions): string {
  const object = shape === "chat" ? "chat.completion.chunk" : "text_completion";
  return `data: {"id":${JSON.stringify(head.id)},"object":"${object}","created":${head.created},"model":${JSON.stringify(head.model)},`;
}
